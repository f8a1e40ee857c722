"""Show where a model stands: clock, versions, monitor, loop, decisions."""

from datetime import UTC, datetime

import typer
from rich.console import Console

from app.config import Config, load_config
from app.console.status import Status, read_status, render_status
from app.ledger.database import open_ledger
from jobs.options import DEFAULT_CONFIG, ConfigFile, Overrides
from jobs.outcome import report, user_errors


def main(
    config: ConfigFile = DEFAULT_CONFIG,
    set_: Overrides = None,
) -> None:
    """Show where a model stands; the last line is the same as one JSON record."""
    with user_errors():
        status = run(load_config(config, set_ or []))
        Console(stderr=True).print(render_status(status))
        report(status)


def run(config: Config) -> Status:
    """Read the status of a model that was started in this workspace."""
    if not (config.workspace / "ledger.sqlite").is_file():
        raise ValueError(
            f"workspace: {config.workspace} holds no ledger; start the model or set another one"
        )
    ledger = open_ledger(config.ledger_url)
    try:
        return read_status(config, ledger, datetime.now(UTC))
    finally:
        ledger.close()


if __name__ == "__main__":
    typer.run(main)

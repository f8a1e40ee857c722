"""Show where a model stands: clock, versions, monitor, loop, decisions."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.config import Config, load_config
from app.console.status import Status, read_status, render_status
from app.ledger.database import open_ledger
from jobs.outcome import report, user_errors


def main(
    config: Annotated[Path, typer.Option(help="The model's YAML file.")] = Path(
        "configs/flights.yaml"
    ),
    set_: Annotated[list[str], typer.Option("--set", help="Override: section.key=value.")] = [],  # noqa: B006
) -> None:
    """Show where a model stands; the last line is the same as one JSON record."""
    with user_errors():
        status = run(load_config(config, set_))
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

"""Watch a model: fold its logs into evidence, once in this process or for good on the cluster."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from app.config import Config, load_config
from app.ledger.database import open_ledger
from app.monitoring.monitor import await_monitor, start_monitor
from app.monitoring.tail import Tail
from app.session import session
from jobs.outcome import report, user_errors


def main(
    config: Annotated[Path, typer.Option(help="The model's YAML file.")] = Path(
        "configs/flights.yaml"
    ),
    set_: Annotated[list[str], typer.Option("--set", help="Override: section.key=value.")] = [],  # noqa: B006
    once: Annotated[bool, typer.Option(help="Fold what there is here, and end.")] = False,
) -> None:
    """Turn the logs of predictions and labels into evidence."""
    with user_errors():
        settings = load_config(config, set_)
        if once:
            report(run_once(settings))
            return
        with session(settings) as cluster:
            handle = start_monitor(settings)
            url = await_monitor(handle)
            if cluster.started:
                typer.echo(f"metrics at {url}; press Ctrl-C to end", err=True)
                _stay()
            report({"model": settings.name, "metrics_url": url})


def run_once(config: Config) -> dict[str, object]:
    """Fold everything that the logs hold now, and say what came of it.

    A monitor that runs on a cluster is replaced meanwhile; its actor starts anew and takes over.
    """
    ledger = open_ledger(config.ledger_url)
    try:
        tail = Tail(config, ledger)
        tick = tail.tick(datetime.now(UTC), {})
        tail.checkpoint(datetime.now(UTC))
    finally:
        ledger.close()
    return {
        "model": config.name,
        "num_rows": tick.num_rows,
        "num_predictions": tail.state.counts.num_predictions,
        "num_labels": tail.state.counts.num_labels,
        "num_unknown_labels": tail.state.num_unknown_labels,
        "evidence": [item.model_dump(mode="json") for item in tick.evidence],
    }


def _stay() -> None:
    """Keep the cluster that this process started until Ctrl-C."""
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        typer.echo("ending", err=True)


if __name__ == "__main__":
    typer.run(main)

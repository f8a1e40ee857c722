"""Watch a model: fold its logs into evidence, once in this process or for good on the cluster."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from app.config import Config, load_config
from app.ledger.database import open_ledger
from app.monitoring.monitor import await_monitor, start_monitor
from app.monitoring.tail import Tail
from app.session import session
from jobs.options import DEFAULT_CONFIG, ConfigFile, Overrides
from jobs.outcome import report, stay, user_errors


def main(
    config: ConfigFile = DEFAULT_CONFIG,
    set_: Overrides = None,
    once: Annotated[bool, typer.Option(help="Fold what there is here, and end.")] = False,
) -> None:
    """Turn the logs of predictions and labels into evidence."""
    with user_errors():
        settings = load_config(config, set_ or [])
        if once:
            report(run_once(settings))
            return
        with session(settings) as cluster:
            handle = start_monitor(settings)
            url = await_monitor(handle)
            report({"model": settings.name, "metrics_url": url})
            if cluster.started:
                stay("the monitor")


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


if __name__ == "__main__":
    typer.run(main)

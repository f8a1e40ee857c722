"""Watch a model, once in this process or for good on the cluster; or tell what was known when."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console

from app.config import Config, load_config
from app.console.as_known import render_as_known
from app.contracts.targets import require_binary
from app.data.tables import open_tables
from app.ledger.database import open_ledger
from app.monitoring.as_known import (
    PerformanceAsKnown,
    Question,
    performance_as_known,
    read_logs,
)
from app.monitoring.monitor import await_monitor, start_monitor
from app.monitoring.tail import Tail
from app.session import session
from jobs.moments import now_of, utc
from jobs.options import DEFAULT_CONFIG, ConfigFile, Overrides
from jobs.outcome import report, stay, user_errors


def main(
    config: ConfigFile = DEFAULT_CONFIG,
    set_: Overrides = None,
    once: Annotated[bool, typer.Option(help="Fold what there is here, and end.")] = False,
    as_known_at: Annotated[
        datetime | None,
        typer.Option(help="Start nothing; tell how good predictions were as known then, UTC."),
    ] = None,
    start: Annotated[
        datetime | None, typer.Option(help="Of predictions asked from here; default: a window.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option(help="Of predictions asked before; default: all until then.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Of this version's; default: whoever was champion.")
    ] = None,
    world: Annotated[
        bool, typer.Option(help="As the world knew it: also what reached us later.")
    ] = False,
) -> None:
    """Turn the logs of predictions and labels into evidence."""
    with user_errors():
        settings = load_config(config, set_ or [])
        require_binary(settings.contract, "monitoring")
        if as_known_at is not None:
            question = ask(settings, as_known_at, start, end, version=version, world=world)
            answer = run_as_known(settings, question)
            Console(stderr=True).print(render_as_known(answer))
            report(answer)
            return
        if start or end or version or world:
            raise ValueError("--start, --end, --version and --world need --as-known-at; add it")
        if once:
            report(run_once(settings))
            return
        with session(settings) as cluster:
            handle = start_monitor(settings)
            url = await_monitor(handle)
            report({"model": settings.name, "metrics_url": url})
            if cluster.started:
                stay("the monitor")


def ask(
    config: Config,
    at: datetime,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    version: str | None = None,
    world: bool = False,
) -> Question:
    """Complete a question; without a start it looks back over one window of evidence."""
    at, until = utc(at), utc(end or at)
    since = utc(start) if start else until - timedelta(config.monitoring.window_days)
    return Question(since, until, at, version=version, by_arrival=not world)


def run_as_known(config: Config, question: Question) -> PerformanceAsKnown:
    """Answer from the tables alone; nothing is started, folded or written."""
    if not (config.workspace / "ledger.sqlite").is_file():
        raise ValueError(
            f"workspace: {config.workspace} holds no ledger; start the model or set another one"
        )
    now = now_of(config)
    if question.at > now:
        raise ValueError(
            f"--as-known-at {question.at.isoformat()} is in the future, it is {now.isoformat()}; "
            "ask for an earlier time"
        )
    tables = open_tables(config)
    predictions, labels = read_logs(tables, question, config.monitoring)
    return performance_as_known(question, predictions, labels, config.name, config.monitoring)


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

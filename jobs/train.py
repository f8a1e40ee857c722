"""Train one version of the model on what is known now."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from app.config import Config, load_config
from app.contracts.records import TrainingResult
from app.data.snapshots import take_snapshot
from app.data.tables import open_tables
from app.ledger.clock import read_clock
from app.ledger.database import open_ledger
from app.registry.artifacts import Artifacts
from app.registry.store import register_version
from app.session import session
from app.training.live import LiveRun, shown_live
from app.training.needs import RunFailed
from app.training.progress import Watches
from app.training.train import RunPlan, find_plan, train
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors
from jobs.progress import shown


def main(
    config: ConfigFile,
    set_: Overrides = None,
    start: Annotated[
        datetime | None, typer.Option(help="First prediction time; default: the window's.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Train on what was known then; default: now.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Name of the run; the same name again goes on.")
    ] = None,
    register: Annotated[bool, typer.Option(help="Enter the version into the registry.")] = True,
    tracking: Annotated[bool, typer.Option(help="Show the run in MLflow.")] = True,
) -> None:
    """Train a version, store its bundle, register it, and show the run in MLflow."""
    with user_errors():
        settings = load_config(config, set_ or [])
        now = _now(settings)
        moment = _utc(until) if until else now
        name = run or f"{settings.name}-{now:%Y%m%dT%H%M%S}"
        plan = find_plan(settings, name) or _plan(settings, _utc(start) if start else None, moment)
        typer.echo(
            f"run {name}: {plan.dataset.num_known:,} outcomes of {plan.dataset.num_rows:,} rows "
            f"before {plan.dataset.end:%Y-%m-%d %H:%M}",
            err=True,
        )
        with _failures_told(), _shown_live(settings, name, plan, tracking) as live:
            with shown() as screen, session(settings):
                watch = Watches(screen, live) if live else screen
                result = train(settings, plan.dataset, name, plan.created_at, watch=watch)
            if register:
                _register(settings, result)
            _tell(result)
            if live:
                live.finish(result, Artifacts(settings.artifacts_path).path(result.version.digest))
        report(result)


def _tell(result: TrainingResult) -> None:
    """Say what came out, for people."""
    typer.echo(
        f"{result.version.digest[:12]}: {result.num_epochs} epochs in {result.seconds:.0f} s, "
        f"{result.rows_per_second:,.0f} rows/s; on the stop rows "
        f"{result.version.evaluation.headline}",
        err=True,
    )


def _plan(config: Config, start: datetime | None, until: datetime) -> RunPlan:
    """Pin the rows before `until` with their outcomes as known then."""
    days = config.training.window_days
    if start is None and days is not None:
        start = until - timedelta(days=days)
    tables = open_tables(config)
    return RunPlan(
        dataset=take_snapshot(tables, config.contract, start, until, until), created_at=until
    )


def _register(config: Config, result: TrainingResult) -> None:
    ledger = open_ledger(config.ledger_url)
    try:
        register_version(ledger, result.version)
    finally:
        ledger.close()


@contextlib.contextmanager
def _failures_told() -> Iterator[None]:
    """Turn workers that keep failing into one line and exit code 1."""
    try:
        yield
    except RunFailed as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error


@contextlib.contextmanager
def _shown_live(config: Config, run: str, plan: RunPlan, wanted: bool) -> Iterator[LiveRun | None]:
    """Show the run in MLflow while it runs; the version stands also where that fails."""
    if not wanted:
        yield None
        return
    with shown_live(LiveRun(config, run, plan.dataset, lambda: datetime.now(UTC))) as live:
        yield live


def _now(config: Config) -> datetime:
    ledger = open_ledger(config.ledger_url)
    try:
        return read_clock(ledger, config, datetime.now(UTC)).now
    finally:
        ledger.close()


def _utc(moment: datetime) -> datetime:
    """Take a time without a zone as UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


if __name__ == "__main__":
    typer.run(main)

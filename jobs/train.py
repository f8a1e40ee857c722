"""Train one version of the model on what is known now, or make a run again and compare."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.config import Config, load_config
from app.console.repetition import render_differences, render_repetition
from app.contracts.erasure import Reduction
from app.contracts.records import DatasetVersion, TrainingResult
from app.ledger.database import open_ledger
from app.priority import give_way
from app.registry.artifacts import Artifacts
from app.registry.store import register_version
from app.session import session
from app.training.again import find_original
from app.training.again import repeat as make_again
from app.training.live import LiveRun, shown_live
from app.training.local import is_in_process
from app.training.needs import RunFailed
from app.training.plans import RunPlan, find_plan, find_result, fresh_run
from app.training.progress import Watches
from app.training.repeating import Repetition
from app.training.train import train
from app.training.window import pin_window
from jobs import card
from jobs.moments import now_of, utc
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors
from jobs.progress import shown

logger = logging.getLogger(__name__)


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
        str | None,
        typer.Option(help="Name of the run; the same name again goes on. Default: a fresh one."),
    ] = None,
    repeat: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Make that run again, on its rows with its settings, and say whether the weights "
            "are bit-equal; --set changes one on purpose.",
        ),
    ] = None,
    register: Annotated[
        bool | None,
        typer.Option(help="Enter the version into the registry. Default: unless it is a repeat."),
    ] = None,
    tracking: Annotated[bool, typer.Option(help="Show the run in MLflow.")] = True,
) -> None:
    """Train a version, store its bundle, register it, and show the run in MLflow.

    A run is kept with all that it was made from. --repeat RUN makes it again from that and compares
    the two; the exit code is 1 when they differ more than what is named as different explains.
    """
    with user_errors():
        settings = load_config(config, set_ or [])
        if repeat:
            if start or until:
                raise ValueError(
                    "--repeat takes the rows of its run: leave out --start and --until"
                )
            repetition, result = repeat_run(settings, repeat, run, set_ or [])
            if register and result:
                _register(settings, result, config)
            report(repetition)
            if not repetition.as_expected:
                raise typer.Exit(1)
            return
        now = now_of(settings)
        moment = utc(until) if until else now
        begun = find_plan(settings, run) if run else None
        plan = begun or RunPlan(
            dataset=pin_window(settings, moment, utc(start) if start else None), created_at=moment
        )
        name = run or fresh_run(settings, f"{settings.name}-{now:%Y%m%dT%H%M%S}")
        typer.echo(
            f"run {name}: {plan.dataset.num_known:,} outcomes of {plan.dataset.num_rows:,} rows "
            f"before {plan.dataset.end:%Y-%m-%d %H:%M}",
            err=True,
        )
        with _failures_told(), _shown_live(settings, name, plan, tracking) as live:
            result = _train(settings, name, plan, live)
            if register is not False:
                _register(settings, result, config)
            _tell(result)
            if live:
                live.finish(result, Artifacts(settings.artifacts_path).path(result.version.digest))
        report(result)


def repeat_run(
    config: Config, first: str, name: str | None, overrides: Sequence[str]
) -> tuple[Repetition, TrainingResult | None]:
    """Make a run again under a fresh name, compare, and show what came of it."""
    original = find_original(config, first, overrides)
    if name == first:
        raise ValueError(f"run {name}: that is the one to repeat; give its repetition another name")
    name = name or fresh_run(config, f"{first}-repeat")
    console = Console(stderr=True)
    if original.since:
        title = "today's configuration is not that of the run, which is used"
        console.print(render_differences(original.since, title))
    if original.check.state == "reduced":
        console.print(f"the snapshot is smaller now, {original.check.reason}: no bit can be asked")
    console.print(f"run {name}: makes {first} again", highlight=False)
    with session(original.config, background=True):
        repetition = make_again(original, name, now_of(config), _train_again)
    console.print(render_repetition(repetition))
    return repetition, find_result(config, name)


def _train_again(
    config: Config,
    dataset: DatasetVersion,
    run: str,
    at: datetime,
    reductions: Sequence[Reduction],
) -> TrainingResult:
    return train(config, dataset, run, at, reductions=reductions)


def _train(config: Config, run: str, plan: RunPlan, live: LiveRun | None) -> TrainingResult:
    """Train here or on a cluster, and show how it goes."""
    if is_in_process(config, plan.dataset):
        give_way(config.cluster.background)
        cluster: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    else:
        cluster = session(config, background=True)
    with shown() as screen, cluster:
        watch = Watches(screen, live) if live else screen
        return train(config, plan.dataset, run, plan.created_at, watch=watch)


def _tell(result: TrainingResult) -> None:
    """Say what came out, for people."""
    typer.echo(
        f"{result.version.digest[:12]}: {result.num_epochs} epochs in {result.seconds:.0f} s, "
        f"{result.rows_per_second:,.0f} rows/s; on the stop rows "
        f"{result.version.evaluation.headline}",
        err=True,
    )


def _register(config: Config, result: TrainingResult, file: Path) -> None:
    """Enter the version into the registry and write its card; the version stands without one."""
    with closing(open_ledger(config.ledger_url)) as ledger:
        register_version(ledger, result.version)
        try:
            written = card.run(config, ledger, result.version, file)
        except OSError as error:
            logger.warning("the model card is not written: %s", error)
            return
    typer.echo(f"card: {written['page']}", err=True)


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


if __name__ == "__main__":
    typer.run(main)

"""Search for better settings of a model, and write the best back as a configuration file."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from app.config import Config, load_config
from app.console.tuning import write_tuning_page
from app.data.locks import locked
from app.model.manifest import write_file
from app.session import session
from app.training.plans import fresh_run, run_folder
from app.training.settings_text import write_settings
from app.training.study import TrialRecord
from app.training.tracking_trials import TrackedSearch
from app.training.tune import SearchPlan, begin_search, find_search, open_trials, run_search
from app.training.tuning import SearchReport, Standing, best_values, report_of, summary
from app.training.window import pin_window
from jobs.moments import now_of, utc
from jobs.options import ConfigFile, Overrides
from jobs.outcome import Ending, report, user_errors

logger = logging.getLogger(__name__)
WORDS = {"complete": "", "stopped": ", stopped early", "failed": ", failed"}


def main(
    config: ConfigFile,
    set_: Overrides = None,
    until: Annotated[
        datetime | None, typer.Option(help="Search on what was known then; default: now.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Name of the search; the same name again goes on.")
    ] = None,
    tracking: Annotated[bool, typer.Option(help="Show the trials in MLflow.")] = True,
) -> None:
    """Try settings within tuning.space until the budget is spent, and write the best as YAML."""
    with user_errors():
        settings = load_config(config, set_ or [])
        now = now_of(settings)
        name = run or fresh_run(settings, f"{settings.name}-tune-{now:%Y%m%dT%H%M%S}")
        plan = find_search(settings, name) or begin_search(
            settings, pin_window(settings, utc(until) if until else now), name, now
        )
        folder = run_folder(settings, name)
        try:
            with locked(folder / ".searching.lock", wait=False):
                found = _search(settings, plan, name, tracking)
        except BlockingIOError:
            raise ValueError(f"run {name} is being searched by another process") from None
        text = write_settings(config.read_text(), {**_written(set_ or []), **best_values(found)})
        write_file(folder / "best.yaml", text.encode())
        # What is named to people as a file to train with is one that loads.
        load_config(folder / "best.yaml")
        _tell_end(found, folder)
        files = {each: str(folder / each) for each in ("best.yaml", "trials.json", "trials.html")}
        report(summary(found, files))


def _search(config: Config, plan: SearchPlan, run: str, tracking: bool) -> SearchReport:
    """Run the search, and show every trial as it ends."""
    trials, folder = open_trials(config, run), run_folder(config, run)
    before = report_of(config, run, plan.created_at, plan.dataset, trials)
    num_ended = len(before.trials) - before.num_of("unfinished")
    typer.echo(
        f"search {run}: {config.tuning.num_trials} trials over {len(config.tuning.space)} settings,"
        f" {plan.dataset.num_known:,} outcomes before {plan.dataset.end:%Y-%m-%d %H:%M}"
        + (f"; {num_ended} trials are done" if num_ended else ""),
        err=True,
    )
    shown = _Shown(config, plan, run) if tracking else None

    def ended(standing: Standing) -> None:
        _tell_trial(standing)
        _write(report_of(config, run, plan.created_at, plan.dataset, trials), folder)
        if shown is not None:
            shown.trial(standing.latest)

    with Ending() as ending:
        if trials.num_left == 0:
            found = before
        else:
            with session(config, background=True):
                found = run_search(config, plan, run, on_ended=ended, should_end=ending.is_asked)
    _write(found, folder)
    if shown is not None:
        shown.end(found)
    return found


def _write(found: SearchReport, folder: Path) -> None:
    """Write the trials for programs and for people."""
    write_file(folder / "trials.json", found.model_dump_json(indent=1).encode())
    write_tuning_page(found, folder / "trials.html")


class _Shown:
    """The search in MLflow; where that fails, the search goes on and it is said once."""

    def __init__(self, config: Config, plan: SearchPlan, run: str) -> None:
        self._tracked: TrackedSearch | None = None
        at_ms = int(plan.created_at.timestamp() * 1000)
        self._guarded(lambda: self._open(config, plan.dataset, run, at_ms))

    def trial(self, record: TrialRecord) -> None:
        """Show a trial that ended just now."""
        if (tracked := self._tracked) is not None:
            self._guarded(lambda: tracked.show(record, _milliseconds()))

    def end(self, found: SearchReport) -> None:
        """Show trials that an earlier session did not live to show, and the result."""
        for record in found.trials:
            self.trial(record)
        if (tracked := self._tracked) is not None:
            self._guarded(lambda: tracked.close(found, _milliseconds()))

    def _open(self, *parts: Any) -> None:
        self._tracked = TrackedSearch(*parts)

    def _guarded(self, act: Callable[[], None]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            act()
        except (MlflowException, OSError) as error:
            self._tracked = None
            logger.warning("the search is not shown in MLflow from here on: %s", error)


def _tell_trial(standing: Standing) -> None:
    """Say how a trial fared, which is best, and how long the rest may take."""
    trial, best = standing.latest, standing.best
    num_ended = sum(record.state != "unfinished" for record in standing.records)
    loss = "no loss" if trial.loss is None else f"loss {trial.loss:.5f}"
    told = f"trial {trial.number}: {loss} in {len(trial.epochs)} epochs{WORDS[trial.state]}"
    if trial.reason:
        told += f" ({trial.reason})"
    told += f"; {num_ended} of {standing.num_wanted} done"
    if best is not None and best.loss is not None:
        told += f"; best {best.loss:.5f} (trial {best.number})"
    if standing.seconds_left:
        told += f"; about {_duration(standing.seconds_left)} left"
    typer.echo(told, err=True)


def _tell_end(found: SearchReport, folder: Path) -> None:
    best = found.best
    assert best is not None
    typer.echo(
        f"best of {len(found.trials)} trials in {_duration(found.seconds)}: trial {best.number}, "
        f"loss {best.loss:.5f}, "
        + ", ".join(f"{key}={value}" for key, value in best.values.items())
        + f"\nsee {folder / 'trials.html'}"
        + f"\ntrain it with: python -m jobs.train --config {folder / 'best.yaml'}",
        err=True,
    )


def _duration(seconds: float) -> str:
    """Write a time span.

    >>> _duration(42), _duration(600), _duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _written(overrides: Sequence[str]) -> dict[str, Any]:
    """Read `--set` as values to write into the file: the best was found with them."""
    pairs = [override.partition("=") for override in overrides]
    return {key.strip(): yaml.safe_load(text) for key, _, text in pairs}


def _milliseconds() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


if __name__ == "__main__":
    typer.run(main)

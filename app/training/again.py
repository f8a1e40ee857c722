"""Make a run again from its folder alone: the same rows, settings and seed, then the comparison.

Knows runs' folders, snapshots and the registry's receipts; how a run computes is the shell's. What
it makes is stored as any run's and registered by nobody.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from app.config import Config, override_config
from app.contracts.circumstances import Difference
from app.contracts.erasure import Reduction
from app.contracts.records import DatasetVersion, TrainingResult
from app.data.reductions import SnapshotCheck
from app.data.snapshots import SnapshotAltered, open_snapshot
from app.data.tables import open_tables
from app.ledger.database import open_ledger
from app.ledger.erasures import read_reductions
from app.model.manifest import read_folder, write_file
from app.registry.artifacts import Artifacts
from app.training.assembly import SECTIONS
from app.training.differing import circumstance_differences, configuration_differences
from app.training.plans import (
    RunPlan,
    RunUnknown,
    find_plan,
    find_result,
    read_circumstances,
    recorded_config,
    run_folder,
)
from app.training.repeating import MadeRun, Repetition, compare

REPETITION = "repetition.json"
Train = Callable[
    [Config, DatasetVersion, str, datetime, Sequence[Reduction]],
    TrainingResult,
]


@dataclass(frozen=True)
class Original:
    """A finished run that is to be made again, and what is to be known before that."""

    run: str
    plan: RunPlan
    result: TrainingResult
    config: Config
    """As it was recorded, with overrides; places and keys are those of today's."""
    recorded: Config
    check: SnapshotCheck
    reductions: tuple[Reduction, ...]
    since: tuple[Difference, ...]
    """What today's configuration has otherwise, in what decides a model."""


def find_original(today: Config, run: str, overrides: Sequence[str] = ()) -> Original:
    """Find a run that can be made again.

    Settings that decide what a model is made of are the recorded ones, with `overrides` on top;
    where things lie and how they are sealed is today's. Raises RunUnknown when the run is not
    finished or its folder does not say enough, SnapshotAltered when its rows are no longer there.
    """
    plan, result = find_plan(today, run), find_result(today, run)
    if plan is None:
        raise RunUnknown(f"run {run}: {run_folder(today, run)} holds no plan; check the name")
    if result is None:
        raise RunUnknown(f"run {run}: is not finished; --run {run} goes on with it")
    recorded = recorded_config(plan, run)
    wanted = override_config(recorded, overrides)
    config = today.model_copy(update={name: getattr(wanted, name) for name in SECTIONS})
    with closing(open_ledger(config.ledger_url)) as ledger:
        reductions = tuple(read_reductions(ledger, config.name))
    _, check = open_snapshot(open_tables(config), config.contract, plan.dataset, reductions)
    if check.state == "altered":
        raise SnapshotAltered(
            f"run {run}: its snapshot of {plan.dataset.num_rows} rows is altered, {check.reason}, "
            f"found {check.found}; without those rows it cannot be made again"
        )
    return Original(
        run=run,
        plan=plan,
        result=result,
        config=config,
        recorded=recorded,
        check=check,
        reductions=reductions,
        since=configuration_differences(recorded, today),
    )


def repeat(original: Original, run: str, at: datetime, train: Train) -> Repetition:
    """Train again under a fresh name, compare, and keep the comparison in the new run's folder."""
    config = original.config
    result = train(config, original.plan.dataset, run, at, original.reductions)
    tolerance = config.training.repeat_tolerance
    repetition = compare(
        _made(config, original.run, original.result),
        _made(config, run, result),
        _differences(original, run),
        tolerance,
    )
    content = repetition.model_dump_json(indent=1).encode()
    write_file(run_folder(config, run) / REPETITION, content)
    return repetition


def _made(config: Config, run: str, result: TrainingResult) -> MadeRun:
    version = result.version
    files = read_folder(Artifacts(config.artifacts_path).path(version.digest))
    return MadeRun(run, version.digest, files, version.evaluation.model_dump(mode="json"))


def _differences(original: Original, run: str) -> list[Difference]:
    """Name what the runs do not share: rows, settings, code, packages, machines."""
    config = original.config
    found = list(configuration_differences(original.recorded, config))
    if original.check.state != "intact":
        found.append(
            Difference(name="snapshot", first="intact", second=original.check.reason, effect="bits")
        )
    found += [
        Difference(
            name=f"code that {original.run} was gone on with",
            first=code.version,
            second="one code throughout",
            effect="model",
        )
        for code in original.plan.resumed_with
    ]
    before, now = (read_circumstances(config, name) for name in (original.run, run))
    if before is not None and now is not None:
        found += circumstance_differences(before, now)
    return found

"""The folder of a run: what it was started with, under what, and what came out, to be read again.

Knows files below a workspace and what they mean; knows nothing of Ray or of how a run computes.
`plan.json` is written before anything else, so that a run can be gone on with, or made again, from
its folder alone.
"""

import re
from pathlib import Path

from pydantic import AwareDatetime, Field, JsonValue, ValidationError

from app.config import Config
from app.contracts.circumstances import Circumstances, Code
from app.contracts.records import DatasetVersion, TrainingResult
from app.contracts.rows import Frozen
from app.model.manifest import write_file
from app.training.assembly import SECTIONS
from app.training.checkpoints import PREFIX

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
PLAN, RESULT, CIRCUMSTANCES = "plan.json", "result.json", "circumstances.json"


class RunUnknown(ValueError):
    """No such run, or not enough of it is left."""


class RunPlan(Frozen):
    """What a run was started with: going on means the same rows and the same bytes."""

    dataset: DatasetVersion
    created_at: AwareDatetime
    configuration: dict[str, JsonValue] | None = Field(
        None, description="The whole effective one; absent in runs of before it was kept."
    )
    circumstances: Circumstances | None = None
    resumed_with: tuple[Code, ...] = Field(
        (), description="Other sources that the run was gone on with after it was interrupted."
    )


def run_folder(config: Config, run: str) -> Path:
    """Name the folder of a run. Raises ValueError for a name that is no plain file name."""
    if not RUN_NAME.fullmatch(run):
        raise ValueError(f"run name {run!r}: use letters, digits, dots, dashes and underscores")
    return config.workspace / "runs" / run


def fresh_run(config: Config, name: str) -> str:
    """Take a name that no run has: this one, or with a number; nobody else gets it.

    A driven clock stands still, and two jobs may start in one second: the folder is the lock.
    """
    number, chosen = 1, name
    while True:
        folder = run_folder(config, chosen)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            chosen = f"{name}-{number}"
        else:
            return chosen


def find_plan(config: Config, run: str) -> RunPlan | None:
    """Find what a run of this name was started with, if it was."""
    file = run_folder(config, run) / PLAN
    return RunPlan.model_validate_json(file.read_bytes()) if file.exists() else None


def begin_plan(config: Config, run: str, new: RunPlan) -> RunPlan:
    """Write a run's plan, or go on with the one that it has.

    Raises ValueError when the name was used with other rows or settings, or when the folder holds
    checkpoints whose plan is gone: nobody can say what they were trained on.
    """
    folder = run_folder(config, run)
    plan = find_plan(config, run)
    if plan is None:
        if any(folder.glob("checkpoint*")) or any(folder.glob(f"{PREFIX}*")):
            raise ValueError(
                f"run {run}: {folder} holds checkpoints and no {PLAN}, so that nobody can say what "
                "they learned from; give this run another name"
            )
        _write(folder, PLAN, new)
        return new
    refuse_other_rows(plan.dataset, new.dataset, run)
    _refuse_other_settings(config, plan, run)
    if new.circumstances is None or plan.circumstances is None:
        return plan
    now, latest = new.circumstances.code, (plan.circumstances.code, *plan.resumed_with)[-1]
    if now.version == latest.version:
        return plan
    plan = plan.model_copy(update={"resumed_with": (*plan.resumed_with, now)})
    _write(folder, PLAN, plan)
    return plan


def fingerprint_of(config: Config, dataset: DatasetVersion) -> str:
    """Name the rows and settings that checkpoints belong to."""
    return f"{dataset.digest}-{dataset.end:%Y%m%dT%H%M%S}-{config.digest_of(*SECTIONS)}"


def refuse_other_rows(before: DatasetVersion, now: DatasetVersion, run: str) -> None:
    """Raise ValueError when a run's name was used with other rows."""
    if (before.digest, before.end) != (now.digest, now.end):
        raise ValueError(
            f"run {run} was started on rows {before.digest} until {before.end.isoformat()}, "
            f"got {now.digest} until {now.end.isoformat()}; give this run another name"
        )


def _refuse_other_settings(config: Config, plan: RunPlan, run: str) -> None:
    if plan.configuration is None:
        return  # The checkpoint's fingerprint still tells.
    before = recorded_config(plan, run)
    if before.digest_of(*SECTIONS) != config.digest_of(*SECTIONS):
        raise ValueError(f"run {run} was begun with other settings; give this run another name")


def recorded_config(plan: RunPlan, run: str) -> Config:
    """Give the configuration that a run was started with.

    Raises RunUnknown when its plan holds none, or one that this version of the code cannot read.
    """
    if plan.configuration is None:
        raise RunUnknown(
            f"run {run}: its plan holds no configuration, it was made before that was kept; "
            "train a run with this version and repeat that"
        )
    try:
        return Config.model_validate(plan.configuration)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RunUnknown(
            f"run {run}: its configuration is not one of this version: {place}: {first['msg']}; "
            "check out the revision that its plan names"
        ) from error


def write_circumstances(config: Config, run: str, circumstances: Circumstances) -> None:
    """Write down under what a run was made, its workers among it."""
    _write(run_folder(config, run), CIRCUMSTANCES, circumstances)


def read_circumstances(config: Config, run: str) -> Circumstances | None:
    """Read under what a run was made; without its workers when it was not finished."""
    file = run_folder(config, run) / CIRCUMSTANCES
    if file.exists():
        return Circumstances.model_validate_json(file.read_bytes())
    plan = find_plan(config, run)
    return plan.circumstances if plan else None


def write_result(config: Config, run: str, result: TrainingResult) -> None:
    """Write down what came out: from here on the run is finished."""
    _write(run_folder(config, run), RESULT, result)


def find_result(config: Config, run: str) -> TrainingResult | None:
    """Find what a run of this name came to, if it is finished."""
    file = run_folder(config, run) / RESULT
    return TrainingResult.model_validate_json(file.read_bytes()) if file.exists() else None


def _write(folder: Path, name: str, record: Frozen) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / name, record.model_dump_json(indent=1).encode())

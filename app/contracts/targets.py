"""Say what a label is for each task: how it is held, what it may be, which parts work with it.

Knows tasks, classes and bounds; knows nothing of rows, tables or models.
"""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, Protocol

import pyarrow as pa

# What is predicted: one of two outcomes, one of several, a number, or an order within a list.
Task = Literal["binary", "multiclass", "regression", "ranking"]
LABEL_TYPES: dict[Task, pa.DataType] = {
    "binary": pa.int8(),
    "multiclass": pa.int16(),  # A place among the classes.
    "regression": pa.float64(),
    "ranking": pa.float64(),
}
MAX_CLASSES = 1000


class Targeted(Protocol):
    """What declares a target: a contract."""

    @property
    def task(self) -> Task:
        """What is predicted."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What each label stands for, where it is a place among them."""


class Bounds(NamedTuple):
    """The least and the greatest label that is believed; None where there is no bound."""

    minimum: float | None
    maximum: float | None


def require_binary(target: Targeted, part: str) -> None:
    """Raise ValueError, saying what does work, where a part is asked for another task than binary.

    Args:
        target: the contract of the model that is asked for.
        part: who cannot do it, as the subject of a sentence: "serving".
    """
    if target.task != "binary":
        raise ValueError(
            f"contract.task: {part} works for binary models only, got {target.task}; for "
            f"{target.task} use jobs.ingest, jobs.train and jobs.score, or set contract.task to "
            "binary"
        )


def refuse_other_target(mine: Targeted, theirs: Targeted) -> None:
    """Raise ValueError where a model (mine) predicts something else than is declared (theirs)."""
    for name, was, now in (
        ("task", mine.task, theirs.task),
        ("classes", ", ".join(mine.classes), ", ".join(theirs.classes)),
    ):
        if was != now:
            raise ValueError(
                f"contract.{name}: the version was trained for {was or 'none'}, the configuration "
                f"says {now or 'none'}; train again, or name another --version"
            )


def check_target(
    task: Task,
    classes: Sequence[str],
    group: str | None,
    bounds: Bounds,
    names: Collection[str],
) -> None:
    """Raise ValueError, saying what to change, unless a target fits its task.

    `names` are those of the columns that come in.
    """
    _check_classes(task, classes)
    if (task == "ranking") != (group is not None):
        raise ValueError(
            f"contract.group: belongs to task ranking and only there, got {task}; name "
            "the column that makes a list or change contract.task"
        )
    if group is not None and group not in names:
        raise ValueError(f"contract.group: no column is named {group}")
    _check_bounds(task, bounds)


def _check_classes(task: Task, classes: Sequence[str]) -> None:
    if (task == "multiclass") != bool(classes):
        raise ValueError(
            f"contract.classes: belong to task multiclass and only there, got {task} with "
            f"{len(classes)} classes; list them or change contract.task"
        )
    if classes and len(set(classes)) != len(classes):
        raise ValueError("contract.classes: a class is listed more than once")
    if len(classes) == 1:
        raise ValueError("contract.classes: one class leaves nothing to predict; list others")
    if len(classes) > MAX_CLASSES:
        raise ValueError(
            f"contract.classes: at most {MAX_CLASSES:,}, got {len(classes):,}; merge rare ones"
        )
    # Labels are compared without the spaces around them: such a class would never be met.
    spaced = [name for name in classes if name != name.strip() or not name]
    if spaced:
        raise ValueError(
            f"contract.classes: {spaced[0]!r} is empty or has spaces around it; leave them off"
        )


def _check_bounds(task: Task, bounds: Bounds) -> None:
    low, high = bounds
    if task not in ("regression", "ranking") and (low is not None or high is not None):
        raise ValueError(
            f"contract.label_minimum, contract.label_maximum: bound a number, got task {task}; "
            "remove them or change contract.task"
        )
    if task == "ranking" and low is not None and low < 0:
        raise ValueError(f"contract.label_minimum: a relevance is at least 0, got {low:g}")
    if low is not None and high is not None and low >= high:
        raise ValueError(
            f"contract.label_minimum {low:g} must be under contract.label_maximum {high:g}"
        )

"""Say which task a label asks for, and read it: two outcomes, several classes, or a number.

Knows counts, a sample's spelling and what a person asked for; knows nothing of files.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from app.contracts.rows import Column
from app.contracts.targets import MAX_CLASSES, Task
from app.data.contents import Tally
from app.data.kinds import Spelling
from app.data.outcomes import LabelRefused, Outcome, read_outcome, spelled_alike
from app.data.roles import Guess, Roles
from app.data.spelling import tidy

# More values than these are proposed as classes by nobody but who asks for it.
MOST_PROPOSED = 50
# A class of fewer rows cannot be learned: then it is more likely that one outcome is meant.
ROWS_A_CLASS = 10
SMALL_NUMBER = 100


class Asked(NamedTuple):
    """What a person says of the label; what is absent is guessed."""

    positive: Collection[str] = ()
    task: Task | None = None
    group: str | None = None


def read_target(source: str, counts: Tally, spelling: Spelling, asked: Asked) -> Outcome:
    """Say what is predicted. Raises LabelRefused, with what to do, for what cannot be learned.

    Args:
        source: the column's name in the file.
        counts: its cells, read as text.
        spelling: what a sample's cells look like, whatever the column is called.
        asked: a task that was asked for is taken, if the cells allow it.
    """
    task = asked.task or _guess(counts, spelling, asked.positive)
    if (task == "ranking") != (asked.group is not None):
        raise LabelRefused(
            f"group: names the lists of task ranking and only there, got task {task}; name "
            "--task ranking and --group together"
        )
    if task != "binary" and asked.positive:
        raise LabelRefused(f"label: --positive belongs to task binary, got {task}; drop one")
    if task == "binary":
        return read_outcome(source, counts, asked.positive)
    if counts.num_present == 0:
        raise LabelRefused(f"label: {source} is empty in every row; name another column")
    why = "asked for" if asked.task else _why(task)
    if task == "multiclass":
        return _classes(source, counts, why)
    return _number(source, counts, spelling, task, why)


def make_lists(guesses: Sequence[Guess], roles: Roles, group: str) -> tuple[list[Guess], Roles]:
    """Let a column name lists: it is what rows are about, and is kept whatever else it seemed."""
    column = Column(name=group, kind="identifier", feature=False)
    kept = [
        replace(guess, use="kept", column=column)
        if guess.name == group and guess.column is None
        else guess
        for guess in guesses
    ]
    reasons = {**roles.reasons, group: "rows of one value stand in one list"}
    parts = {"id": roles.id, "event_time": roles.event_time}
    return kept, Roles(
        entity=group,
        reasons=reasons,
        **{part: None if name == group else name for part, name in parts.items()},
    )


def _guess(counts: Tally, spelling: Spelling, positive: Collection[str]) -> Task:
    """Guess the task; what can be none of the others is taken for binary, and refused there."""
    is_number = spelling.kind == "number"
    if positive or not counts.num_present:
        return "binary"
    if counts.values is None:
        return "regression" if is_number else "binary"
    groups = spelled_alike(list(counts.values))
    if len(groups) <= 2:
        return "binary"
    few = len(groups) <= MOST_PROPOSED and counts.num_present >= ROWS_A_CLASS * len(groups)
    if not is_number:
        return "multiclass" if few else "binary"
    return "multiclass" if few and all(map(_is_small, groups)) else "regression"


def _is_small(text: str) -> bool:
    """Tell whether a text is a whole number that could number a class."""
    return text.lstrip("+-").isdecimal() and abs(int(text)) <= SMALL_NUMBER


def _why(task: Task) -> str:
    return "few values, each often" if task == "multiclass" else "a number of many values"


def _classes(source: str, counts: Tally, why: str) -> Outcome:
    values = counts.values
    groups = spelled_alike(list(values)) if values is not None else {}
    # Where nearly every row has a value of its own, none of them is a class.
    fits = 2 <= len(groups) <= min(MAX_CLASSES, counts.num_present // 2)
    if values is None or not fits:
        found = f"{len(groups):,}" if values is not None else "too many"
        raise LabelRefused(
            f"label: {source} has {found} different values in {counts.num_present:,} cells; task "
            f"multiclass takes 2 to {MAX_CLASSES:,} classes, each several times: name another "
            "column, or another --task"
        )
    # The commonest spelling names the class; of equally common ones the first.
    named = {max(texts, key=lambda text: values[text]): texts for texts in groups.values()}
    ordered = sorted(named, key=_in_order)
    return _outcome(
        source,
        counts,
        why,
        task="multiclass",
        classes={name: sum(values[text] for text in named[name]) for name in ordered},
        spellings={name: tuple(named[name]) for name in ordered if len(named[name]) > 1},
    )


def _in_order(name: str) -> tuple[float, str]:
    """Order classes that are numbers by size, before others by name."""
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name


def _number(source: str, counts: Tally, spelling: Spelling, task: Task, why: str) -> Outcome:
    if spelling.kind != "number":
        raise LabelRefused(
            f"label: {source} is no number ({spelling.why}); task {task} needs one: name another "
            "column, or another --task"
        )
    if counts.num_distinct == 1:
        raise LabelRefused(f"label: {source} is the same in every row; there is nothing to predict")
    return _outcome(source, counts, why, task=task, num_numbers=counts.num_present)


def _outcome(source: str, counts: Tally, why: str, **target: Any) -> Outcome:
    """Describe a label that is no yes or no."""
    return Outcome(
        source=source,
        name=tidy(source),
        positive=(),
        negative=(),
        num_positive=0,
        num_negative=0,
        num_unknown=counts.num_rows - counts.num_present,
        why=why,
        **target,
    )

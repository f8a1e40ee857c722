"""Declare window features: what is added up, over whom, how far back, and when a fact is known.

Knows names, kinds and spans; knows nothing of rows, tables or stores.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Literal, Protocol, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from app.contracts.targets import Task

Aggregate = Literal["count", "sum", "mean", "share", "distinct", "time_since_last"]
LABEL = "label"
LIVE_SOURCE = "serving"
LONGEST_DAYS = 3660.0
# Without a span, an event of more than a year ago is as good as none.
SINCE_LAST_DAYS = 366.0
# What `of` may name: kinds of columns, or the label.
SUBJECTS: dict[Aggregate, tuple[str, ...]] = {
    "count": (LABEL, "number", "category", "identifier", "time"),
    "sum": (LABEL, "number"),
    "mean": (LABEL, "number"),
    "share": (LABEL,),
    "distinct": ("category", "identifier"),
    "time_since_last": (),
}
# Of which labels an aggregate can be made: places of classes cannot be added up.
OF_LABELS: dict[Aggregate, tuple[Task, ...]] = {
    "sum": ("binary", "regression", "ranking"),
    "mean": ("binary", "regression", "ranking"),
    "share": ("binary",),
}
# Columns that rows have beside those of the contract.
TAKEN = ("prediction_time", "ingested_at", "source", "state", LABEL)


class Window(BaseModel):
    """One window feature: an aggregate over the past events of the row's own entity.

    An event is in the window of a row asked at t when its prediction time is in [t - span, t) and
    it was known by t. Without an entity a row has no value. A sum, count or distinct of nothing is
    0; a mean or share of nothing has no value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    aggregate: Aggregate
    entity: str | None = Field(
        None, description="Column whose value an event shares with the row; contract.entity."
    )
    of: str | None = Field(
        None,
        description="Column that is added up, nulls left out; `label` is the outcome, as known "
        "at the time. A count needs none.",
    )
    window_days: float | None = Field(None, gt=0, le=LONGEST_DAYS)
    hours: float | None = Field(None, gt=0, le=24 * LONGEST_DAYS)
    description: str = ""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        given = [span for span in (self.window_days, self.hours) if span is not None]
        if len(given) > 1 or (not given and self.aggregate != "time_since_last"):
            raise ValueError(
                f"window {self.name}: give one of window_days and hours, got {len(given)}"
            )
        if self.aggregate in ("sum", "mean", "share", "distinct") and self.of is None:
            raise ValueError(f"window {self.name}: {self.aggregate} of what? Name a column in of")
        if self.aggregate == "time_since_last" and self.of is not None:
            raise ValueError(f"window {self.name}: time_since_last has no of, got {self.of}")
        return self

    @property
    def span(self) -> int:
        """How far the window reaches back, in microseconds."""
        if self.hours is not None:
            return timedelta(hours=self.hours) // timedelta(microseconds=1)
        days = SINCE_LAST_DAYS if self.window_days is None else self.window_days
        return timedelta(days=days) // timedelta(microseconds=1)

    @property
    def of_label(self) -> bool:
        """Whether outcomes are added up, as known at the time."""
        return self.of == LABEL

    @property
    def unit(self) -> str:
        """Unit of the value, where it is not that of the column."""
        units = {"count": "events", "distinct": "values", "time_since_last": "h"}
        return units.get(self.aggregate, "")

    @property
    def key(self) -> str:
        """The entity's column."""
        assert self.entity is not None, "a contract gives every window its entity"
        return self.entity


class Arrivals(BaseModel):
    """From when on a fact counts as known.

    History says itself when an event was asked and an outcome became known. What comes through the
    endpoint is known no earlier than it arrived, and so is what an ingest brings in after
    `backfilled_until`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settle_seconds: float = Field(
        60.0,
        ge=0,
        description="What arrives counts so long after: the time in which it reaches the online "
        "store, so that what was served can be computed again exactly.",
    )
    backfilled_until: AwareDatetime | None = Field(
        None,
        description="What an ingest brings in later than this is known from its arrival; absent: "
        "everything that an ingest brings in is history.",
    )

    @property
    def settle(self) -> int:
        """Microseconds from arrival until a fact counts."""
        return timedelta(seconds=self.settle_seconds) // timedelta(microseconds=1)


def completed(
    windows: Sequence[Window], entity: str | None, label: str | None
) -> tuple[Window, ...]:
    """Give every window its entity, and the label its common name."""
    return tuple(
        window.model_copy(
            update={
                "entity": window.entity or entity,
                "of": LABEL if window.of is not None and window.of == label else window.of,
            }
        )
        for window in windows
    )


class Windowed(Protocol):
    """What declares windows: a contract."""

    @property
    def windows(self) -> tuple[Window, ...]:
        """Its window features."""

    @property
    def arrivals(self) -> Arrivals:
        """When a fact counts as known."""


def refuse_other_windows(mine: Windowed, theirs: Windowed) -> None:
    """Raise ValueError when values made by their declarations are not what mine mean."""
    declared = {window.name: window for window in theirs.windows}
    for window in mine.windows:
        if window.name not in declared:
            raise ValueError(f"window {window.name} is not declared any more; train again")
        if (declared[window.name], theirs.arrivals) != (window, mine.arrivals):
            raise ValueError(f"window {window.name} is declared otherwise now; train again")


def check_windows(
    windows: Sequence[Window],
    kinds: Mapping[str, str],
    label: str,
    forbidden: Collection[str] = (),
    task: Task = "binary",
) -> None:
    """Raise ValueError, saying what to change, unless the windows fit a contract's columns.

    `kinds` are those of the columns that come in; `forbidden` names the others; `task` says what
    the label is.
    """
    taken = {*kinds, *forbidden, *TAKEN, label}
    for window in windows:
        place = f"contract.windows: {window.name}"
        if window.name in taken:
            raise ValueError(f"{place} is the name of another column; choose another name")
        taken.add(window.name)
        if window.entity is None:
            raise ValueError(f"{place} has no entity and contract.entity is absent; name a column")
        if kinds.get(window.entity) not in ("identifier", "category"):
            got = kinds.get(window.entity, "no such column")
            raise ValueError(
                f"{place}: entity {window.entity} must be an identifier or category, got {got}"
            )
        _check_subject(window, kinds, place)
        _check_label(window, task, place)


def _check_subject(window: Window, kinds: Mapping[str, str], place: str) -> None:
    if window.of is None:
        return
    if window.of_label and LABEL in kinds:
        raise ValueError(f"{place}: of label is ambiguous, a column has that name; rename it")
    got = LABEL if window.of_label else kinds.get(window.of, "no such column")
    wanted = SUBJECTS[window.aggregate]
    if got not in wanted:
        raise ValueError(
            f"{place}: {window.aggregate} of {window.of} ({got}); it takes {' or '.join(wanted)}"
        )


def _check_label(window: Window, task: Task, place: str) -> None:
    if not window.of_label or task in OF_LABELS.get(window.aggregate, (task,)):
        return
    advice = "take mean or sum" if task in OF_LABELS["mean"] else "take count"
    raise ValueError(
        f"{place}: {window.aggregate} of the label means nothing for task {task}; {advice}, or "
        "drop the window"
    )

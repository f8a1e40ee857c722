"""Commit a settled delivery, once: what the tables have of it already, and what is still to come.

A delivery is a transaction of each table. Its quarantined rows are committed first and its accepted
ones last, which closes it; whatever was cut off between is completed by doing it again. Knows
tables, marks and windows; knows nothing of Ray or of where rows come from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Literal

import pyarrow as pa

from app.data.classes import class_marks, refuse_other_classes
from app.data.deliveries import Delivery, Mark, Position, done_mark, first_mark
from app.data.intake import FOREVER, TIME, Window
from app.data.pieces import DELIVERY
from app.data.settling import Settled
from app.data.tables import TableName, Tables

Part = Literal["events", "labels"]


@dataclass(frozen=True)
class Plan:
    """The deliveries that a table lacks, in order, and the window that takes their rows.

    `places` counts how often a file's name came before with other bytes.
    """

    part: Part
    pending: tuple[Delivery, ...]
    window: Window
    places: dict[str, int]
    reached: tuple[Mark, ...]

    def rewritten(self, delivery: Delivery) -> bool:
        """Tell whether a file of this name came before, with other bytes."""
        return delivery.place in self.places and delivery.digest not in self.window.since

    def marks(self, delivery: Delivery, *, last: bool) -> list[Mark]:
        """Return what is remembered beside a delivery: its file's name, its table's position."""
        marks = list(delivery.marks)
        if delivery.file is not None and delivery.digest not in self.window.since:
            marks.append((delivery.place, self.places.get(delivery.place, 0) + 1))
        if last and self.window.until == FOREVER:
            marks += self.reached
        return marks


def plan_of(
    tables: Tables,
    part: Part,
    deliveries: Sequence[Delivery],
    until: int,
    reached: tuple[Mark, ...] = (),
) -> Plan:
    """Find out which deliveries a table lacks up to a moment, and how far it has each.

    Raises ValueError for outcomes of other classes than those that are there.
    """
    if part == "labels":
        refuse_other_classes(tables, tables.contract)
    applications = {application_of(delivery.digest): delivery.digest for delivery in deliveries}
    numbers = tables.transactions(part, applications)
    since = {applications[name]: number for name, number in numbers.items()}
    pending = tuple(d for d in deliveries if since.get(d.digest, -1) < until)
    places = tables.transactions(part, [d.place for d in pending if d.file is not None])
    return Plan(part, pending, Window(until, since), places, reached)


def position_of(tables: Tables, part: Part, key: str) -> Position:
    """Say how far a growing table is in: its rows come in the order quarantine, then the rest."""
    names = first_mark(key), done_mark(key)
    numbers = tables.transactions(part, names)
    begun = tables.transaction("quarantine", done_mark(key))
    return Position(numbers.get(names[0]), numbers.get(names[1]), begun)


def commit_delivery(
    tables: Tables, plan: Plan, delivery: Delivery, settled: Settled, at: datetime, *, last: bool
) -> int | None:
    """Append what was settled of a delivery; `last` says that nothing of its table is missing.

    Returns the version of the table that closes it, None when it was in already.
    """
    application = application_of(delivery.digest)
    own, marks = (application, plan.window.until), plan.marks(delivery, last=last)
    if plan.part == "labels":
        marks += class_marks(tables)
    if settled.num_quarantined:
        # Where an ingest was cut off, the quarantine is ahead of the rows.
        done = tables.transaction("quarantine", application)
        window = Window(plan.window.until, {} if done is None else {delivery.digest: done})
        refused = partial(_refused, tables, settled, window, at, application)
        tables.append("quarantine", refused, own, marks)
    accepted = partial(_accepted, tables, plan.part, settled, at, application)
    return tables.append(plan.part, accepted, own, marks)


def application_of(digest: str) -> str:
    """Name a delivery in the tables: as a row's source, and in transactions."""
    return f"ingest:{digest}"


def _refused(
    tables: Tables, settled: Settled, window: Window, at: datetime, source: str
) -> Iterator[pa.Table]:
    for rows in settled.refused():
        taken = rows.filter(pa.array(window.takes(rows[DELIVERY], rows[TIME])))
        yield _completed(tables, "quarantine", taken, at, source)


def _accepted(
    tables: Tables, part: Part, settled: Settled, at: datetime, source: str
) -> Iterator[pa.Table]:
    for rows in settled.accepted():
        yield _completed(tables, part, rows, at, source)


def _completed(
    tables: Tables, name: TableName, rows: pa.Table, at: datetime, source: str
) -> pa.Table:
    return tables.complete(name, rows.drop_columns([DELIVERY, TIME]), at, source)

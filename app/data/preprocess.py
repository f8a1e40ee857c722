"""Bring a source in: read → validate → pseudonymise → commit. Repeating it adds nothing.

Knows Ray Data, the source and the tables; what is wrong with a row is for validation to say. Every
delivery is a transaction of each table: quarantined rows are committed first, then outcomes, then
the accepted rows, so that an ingest that was cut off at any point can simply be run again.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from pydantic import Field

from app.config import Config
from app.contracts.rows import Contract, Frozen
from app.data.admission import admit, arrived_outcomes, arrived_rows
from app.data.arrivals import arriving
from app.data.files import DELIVERY, NOWHERE, POSITION, SourceError
from app.data.forgetting import refuse_erased, withhold_erased
from app.data.intake import (
    TIME,
    Settled,
    Window,
    judge_block,
    judge_labels,
    judged_schema,
    mark_of,
    settle,
)
from app.data.labels import KNOWN_LABELS
from app.data.sources import Source, open_source
from app.data.tables import TableName, Tables
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key


class IngestResult(Frozen):
    """What an ingest brought in. num_in = num_accepted + num_quarantined, exactly.

    The same holds for outcomes: num_labels_in = num_labels + num_labels_quarantined.
    """

    num_deliveries: int = Field(ge=0, description="Files, or packages, looked into.")
    num_in: int = Field(ge=0, description="Rows that no earlier ingest has brought in.")
    num_accepted: int = Field(ge=0)
    num_quarantined: int = Field(ge=0)
    num_labels_in: int = Field(ge=0)
    num_labels: int = Field(ge=0)
    num_labels_quarantined: int = Field(ge=0)
    events_version: int
    quarantine_version: int
    labels_version: int
    report: str | None = Field(None, description="The report's file, if there was a delivery.")


def ingest(
    config: Config, tables: Tables, until: datetime | None = None, *, at: datetime | None = None
) -> IngestResult:
    """Bring in what a source has and the tables have not: rows asked, outcomes known by `until`.

    `at` is when the rows arrive, by default now. Needs a Ray session. Raises SourceError for a
    source that cannot be read, and IngestStopped for one that breaks the policy of `intake`: then
    nothing was brought in.
    """
    at = at or datetime.now(UTC)
    source = open_source(config, at)
    pseudonymiser = Pseudonymiser(pseudonym_key(config))
    rows = Window(mark_of(until), _left_off(tables, "events", source.deliveries))
    known = Window(_known_by(until), _left_off(tables, "labels", source.label_deliveries))
    judged = _judge(source, _pending(source.deliveries, rows), config.contract, rows, pseudonymiser)
    with arriving(config) as erased:
        judged = refuse_erased(judged, config.contract, erased)
        before = _before(tables, config.contract)
        seen = before[config.contract.id]
        settled = settle(judged, config.contract, seen, pseudonymiser, seen=before)
        ids = settled.accepted[config.contract.id].combine_chunks()
        num_labels_in, outcomes = _judge_labels(source, known, pa.concat_arrays([seen, ids]))
        withheld = withhold_erased(outcomes.quarantined, config.contract, erased)
        outcomes = Settled(outcomes.accepted, withheld)
        taken, told = (_pending(source.deliveries, rows), _pending(source.label_deliveries, known))
        arrived = arrived_rows(config, judged, settled, taken, source.pieces)
        labels = arrived_outcomes(outcomes, num_labels_in, told, source.label_pieces)
        report = admit(config, tables, arrived, labels, at, until)
        _commit(
            tables,
            _Judged(source.deliveries, rows, settled),
            _Judged(source.label_deliveries, known, outcomes),
            at,
        )
    return IngestResult(
        num_deliveries=len(taken),
        num_in=judged.num_rows,
        num_accepted=settled.accepted.num_rows,
        num_quarantined=settled.quarantined.num_rows,
        num_labels_in=num_labels_in.total(),
        num_labels=outcomes.accepted.num_rows,
        num_labels_quarantined=outcomes.quarantined.num_rows,
        events_version=tables.version("events"),
        quarantine_version=tables.version("quarantine"),
        labels_version=tables.version("labels"),
        report=str(report) if report else None,
    )


@dataclass(frozen=True)
class _Judged:
    """The judged rows, or outcomes, of some deliveries, and the window that took them."""

    deliveries: tuple[str, ...]
    window: Window
    settled: Settled


def _known_by(until: datetime | None) -> int:
    """Give the mark that ends a window of outcomes: one known at `until` is known by then."""
    return mark_of(until + timedelta(microseconds=1) if until else None)


def _application(delivery: str) -> str:
    """Name a delivery in the tables: as a row's source, and in transactions."""
    return f"ingest:{delivery}"


def _left_off(tables: Tables, name: TableName, deliveries: Sequence[str]) -> dict[str, int]:
    """Say how far each delivery is in a table; one that never was is absent."""
    marks = {d: tables.transaction(name, _application(d)) for d in deliveries}
    return {delivery: mark for delivery, mark in marks.items() if mark is not None}


def _before(tables: Tables, contract: Contract) -> dict[str, pa.Array]:
    """Read the values of unique columns that are in already."""
    names = [column.name for column in contract.unique]
    rows = tables.read("events", columns=names)
    return {name: rows[name].combine_chunks() for name in names}


def _pending(deliveries: Sequence[str], window: Window) -> list[str]:
    return [d for d in deliveries if window.since.get(d, -1) < window.until]


def _judge(
    source: Source,
    pending: Sequence[str],
    contract: Contract,
    window: Window,
    pseudonymiser: Pseudonymiser,
) -> pa.Table:
    """Judge blocks on the cluster and gather them in the order of the source."""
    if not pending:
        return judged_schema(contract).empty_table()
    judge = partial(judge_block, contract=contract, window=window, pseudonymiser=pseudonymiser)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    blocks = source.blocks(pending).map_batches(judge, batch_size=None, batch_format="pyarrow")
    tables = [table for table in ray.get(blocks.to_arrow_refs()) if table.num_rows]
    judged = pa.concat_tables([judged_schema(contract).empty_table(), *tables])
    failed = judged.filter(pc.equal(judged[POSITION], NOWHERE))
    if failed.num_rows:
        raise SourceError(failed["reasons"][0].as_py()[0].removeprefix("row "))
    places = pa.array(source.deliveries, pa.string())
    order = judged.append_column("order", pc.index_in(judged[DELIVERY], value_set=places))
    return order.sort_by([("order", "ascending"), (POSITION, "ascending")]).drop_columns("order")


def _judge_labels(
    source: Source, window: Window, known_ids: pa.Array
) -> tuple[Counter[str], Settled]:
    """Judge the outcomes of every delivery that has some to bring; count them by delivery."""
    pending = _pending(source.label_deliveries, window)
    nothing = judge_labels(KNOWN_LABELS.empty_table(), "", window, known_ids)
    judged = [
        (delivery, *judge_labels(labels, delivery, window, known_ids))
        for delivery, labels in source.labels(pending)
        if delivery in pending
    ]
    num_in: Counter[str] = Counter()
    for delivery, number, _ in judged:
        num_in[delivery] += number
    parts = [nothing[1], *(part for _, _, part in judged)]
    accepted = pa.concat_tables([part.accepted for part in parts])
    quarantined = pa.concat_tables([part.quarantined for part in parts])
    return num_in, Settled(accepted, quarantined)


def _commit(tables: Tables, rows: _Judged, labels: _Judged, at: datetime) -> None:
    """Append what was judged, each delivery once; the events come last, they close a delivery."""
    marks, parts = [], []
    for judged in (rows, labels):
        window = Window(judged.window.until, _left_off(tables, "quarantine", judged.deliveries))
        part = judged.settled.quarantined
        parts.append(part.filter(pa.array(window.takes(part[DELIVERY], part[TIME]))))
        marks += _marks(judged.deliveries, window)
    _append(tables, "quarantine", pa.concat_tables(parts), marks, at)
    _append(tables, "labels", labels.settled.accepted, _marks(labels.deliveries, labels.window), at)
    _append(tables, "events", rows.settled.accepted, _marks(rows.deliveries, rows.window), at)


def _marks(deliveries: Sequence[str], window: Window) -> list[tuple[str, int]]:
    return [(_application(d), window.until) for d in _pending(deliveries, window)]


def _append(
    tables: Tables, name: TableName, rows: pa.Table, marks: list[tuple[str, int]], at: datetime
) -> None:
    if not marks:
        return
    prefix = pa.scalar(_application(""))
    sources = pc.binary_join_element_wise(prefix, rows[DELIVERY], pa.scalar(""))
    rows = rows.drop_columns([column for column in (DELIVERY, TIME) if column in rows.column_names])
    tables.append(name, tables.complete(name, rows, at, sources), marks)

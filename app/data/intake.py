"""Judge delivered rows: block by block, then all together; nothing is lost on the way.

Knows validation and the bookkeeping columns of a delivery; knows nothing of Ray, files or tables.
Rows carry the delivery they came in, their position there, and the time by which an ingest that
goes up to some moment takes them or leaves them for later.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import TIMESTAMP, Contract
from app.contracts.times import micros_of
from app.data.cells import cells_of_arrow
from app.data.files import BROKEN, DELIVERY, NOWHERE, POSITION
from app.data.quarantine import QUARANTINED, WITHHELD, Reasons, quarantined_rows
from app.data.repeats import keep_first
from app.data.validation import LABEL_COLUMNS, Validated, validate, validate_labels
from app.security.privacy import Pseudonymiser

TIME = "__time"
REFUSED = pa.schema([*QUARANTINED, pa.field(DELIVERY, pa.string()), pa.field(TIME, TIMESTAMP)])
FOREVER = 2**62


def mark_of(moment: datetime | None) -> int:
    """Return microseconds since 1970; no moment is later than every other."""
    return FOREVER if moment is None else micros_of(moment)


@dataclass(frozen=True)
class Window:
    """What an ingest takes: times before `until`, from where each delivery was left off.

    `since` maps deliveries to marks; an absent one was never taken up. A row whose time cannot be
    read belongs to the first ingest of its delivery.
    """

    until: int
    since: Mapping[str, int]

    def takes(self, delivery: pa.ChunkedArray, time: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
        """Tell which rows are taken."""
        encoded = pc.dictionary_encode(delivery.combine_chunks())
        starts = [self.since.get(name, -FOREVER) for name in encoded.dictionary.to_pylist()]
        start = np.array(starts, np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
        marks = time.cast(pa.int64())
        known = marks.is_valid().to_numpy()
        values = marks.fill_null(0).to_numpy()
        taken: npt.NDArray[np.bool_] = np.where(
            known, (values >= start) & (values < self.until), start == -FOREVER
        )
        return taken


@dataclass(frozen=True)
class Settled:
    """Judged rows; both tables carry `__delivery` and `__time` beside their own columns."""

    accepted: pa.Table
    quarantined: pa.Table


def judged_schema(contract: Contract) -> pa.Schema:
    """Return the schema of judged blocks: a row is accepted when it has no reasons."""
    columns = [field.with_nullable(True) for field in contract.schema]
    kept = [field.with_nullable(True) for field in QUARANTINED if field.name != "position"]
    places = [(DELIVERY, pa.string()), (POSITION, pa.int64()), (TIME, TIMESTAMP)]
    return pa.schema([*columns, *kept, *places])


def judge_block(
    block: pa.Table, contract: Contract, window: Window, pseudonymiser: Pseudonymiser
) -> pa.Table:
    """Validate and protect the rows of a block that the window takes; see judged_schema."""
    event_time = contract.by_name[contract.event_time]
    times = cells_of_arrow(block[contract.event_time], event_time).array
    asked = pc.subtract(times, pa.scalar(contract.lead, pa.duration("us")))
    block = block.append_column(TIME, asked)
    failed = block[POSITION].to_numpy() == NOWHERE
    block = block.filter(pa.array(window.takes(block[DELIVERY], block[TIME]) | failed))
    whole = block.filter(block[BROKEN].is_null())
    names = [name for name in block.column_names if name not in (DELIVERY, POSITION, BROKEN, TIME)]
    validated = validate(whole.select(names), contract, pseudonymiser=pseudonymiser)
    places = whole.select([DELIVERY, POSITION, TIME])
    parts = [
        _beside(validated.accepted, places.take(pa.array(validated.positions))),
        _beside(
            validated.quarantined.drop_columns("position"),
            places.take(validated.quarantined["position"]),
        ),
        _broken_rows(block.filter(block[BROKEN].is_valid()), contract),
    ]
    schema = judged_schema(contract)
    return pa.concat_tables([_in_schema(part, schema) for part in parts])


def settle(
    judged: pa.Table,
    contract: Contract,
    seen_ids: pa.Array,
    pseudonymiser: Pseudonymiser,
    *,
    seen: Mapping[str, pa.Array] | None = None,
) -> Settled:
    """Refuse ids that come again, in another block or since an earlier ingest; then part the rows.

    `seen` has the values of earlier ingests of the other unique columns. Blocks may come in any
    order: the first row of an id is the one of the earlier delivery and position.
    """
    accepted = judged.filter(judged["reasons"].is_null())
    refused = judged.filter(judged["reasons"].is_valid())
    columns = accepted.select(contract.schema.names)
    reasons = Reasons()
    before = {contract.id: seen_ids, **(seen or {})}
    every = np.arange(columns.num_rows, dtype=np.int64)
    first = pa.array(keep_first(columns, every, contract, reasons, before))
    again = quarantined_rows(
        reasons, lambda i: columns.take(pa.array(i)).to_pylist(), contract, pseudonymiser
    )
    places = accepted.select([DELIVERY, POSITION, TIME])
    repeated = _beside(again.drop_columns("position"), places.take(again["position"]))
    parts = [
        _in_schema(part.rename_columns({POSITION: "position"}), REFUSED)
        for part in (refused, repeated)
    ]
    quarantined = pa.concat_tables(parts)
    kept = places.take(first).drop_columns(POSITION)
    return Settled(_beside(columns.take(first).cast(contract.schema), kept), quarantined)


def judge_labels(
    labels: pa.Table, delivery: str, window: Window, known_ids: pa.Array
) -> tuple[int, Settled]:
    """Judge the outcomes of one delivery that the window takes, by when they became known.

    An outcome of an unknown row is quarantined. Returns how many outcomes were taken, and both
    parts.
    """
    known_at = cells_of_arrow(labels["known_at"], LABEL_COLUMNS.by_name["known_at"]).array
    labels = labels.append_column(TIME, known_at)
    labels = labels.append_column(DELIVERY, pa.repeat(pa.scalar(delivery), labels.num_rows))
    positions = np.flatnonzero(window.takes(labels[DELIVERY], labels[TIME]))
    taken = labels.take(pa.array(positions))
    validated: Validated = validate_labels(
        taken.drop_columns([TIME, DELIVERY]), known_ids=known_ids
    )
    places = taken.select([DELIVERY, TIME])
    refused = validated.quarantined["position"].to_numpy()
    quarantined = validated.quarantined.set_column(
        2, QUARANTINED.field("position"), pa.array(positions[refused])
    )
    return taken.num_rows, Settled(
        _beside(validated.accepted, places.take(pa.array(validated.positions))),
        _in_schema(_beside(quarantined, places.take(pa.array(refused))), REFUSED),
    )


def _broken_rows(block: pa.Table, contract: Contract) -> pa.Table:
    row = f'{{"row":"{WITHHELD}"}}'
    reasons = [[f"row {problem}"] for problem in block[BROKEN].to_pylist()]
    content = {"row": [row] * block.num_rows, "reasons": pa.array(reasons, pa.list_(pa.string()))}
    return _beside(pa.table(content), block.select([DELIVERY, POSITION, TIME]))


def _beside(left: pa.Table, right: pa.Table) -> pa.Table:
    for name in right.column_names:
        left = left.append_column(name, right[name])
    return left


def _in_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    arrays = [
        table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(len(table), f.type)
        for f in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)

"""Judge delivered rows and outcomes block by block; nothing is lost on the way.

Knows validation and the bookkeeping columns of a delivery; knows nothing of Ray, files or tables.
Rows carry the delivery they came in, their position there, and the time by which an ingest that
goes up to some moment takes them or leaves them for later. Whether an id comes again is not for one
block to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import TIMESTAMP, Contract
from app.contracts.times import micros_of
from app.data.cells import cells_of_arrow, cells_of_json
from app.data.delivered_labels import LABEL_COLUMNS
from app.data.pieces import BROKEN, DELIVERY, NOWHERE, OBJECT, POSITION
from app.data.quarantine import QUARANTINED, WITHHELD, Reasons, quarantined_rows
from app.data.validation import Validated, validate, validate_labels, validate_rows
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


class Judged(NamedTuple):
    """The rows of a block: `accepted` in the contract's columns, `refused` in those of REFUSED.

    Accepted rows carry `__delivery`, `__position` and `__time` beside their own columns.
    """

    accepted: pa.Table
    refused: pa.Table


def judge_block(
    block: pa.Table, contract: Contract, window: Window, pseudonymiser: Pseudonymiser
) -> Judged:
    """Validate and protect the rows of a block that the window takes.

    A block has its bookkeeping columns (Rows.with_places) beside the contract's, or beside one
    column of JSON objects, which are judged strictly.
    """
    block = block.append_column(TIME, _times(block, contract))
    failed = block[POSITION].to_numpy() == NOWHERE
    block = block.filter(pa.array(window.takes(block[DELIVERY], block[TIME]) | failed))
    whole = block.filter(block[BROKEN].is_null())
    validated = _validated(whole, contract, pseudonymiser)
    places = whole.select([DELIVERY, POSITION, TIME])
    parts = [
        _refused(validated.quarantined, places),
        _broken_rows(block.filter(block[BROKEN].is_valid())),
    ]
    kept = places.take(pa.array(validated.positions))
    return Judged(_beside(validated.accepted, kept), pa.concat_tables(parts))


def judge_labels(
    block: pa.Table, window: Window, known_ids: pa.Array, contract: Contract | None = None
) -> Judged:
    """Judge the outcomes of a block that the window takes, by when they became known.

    An outcome of an unknown row is quarantined. Labels are the contract's, by default binary.
    """
    known_at = cells_of_arrow(block["known_at"], LABEL_COLUMNS.by_name["known_at"]).array
    block = block.append_column(TIME, known_at)
    block = block.filter(pa.array(window.takes(block[DELIVERY], block[TIME])))
    whole = block.filter(block[BROKEN].is_null())
    validated = validate_labels(whole.select(LABEL_COLUMNS.schema.names), known_ids, contract)
    places = whole.select([DELIVERY, POSITION, TIME])
    parts = [
        _refused(validated.quarantined, places),
        _broken_rows(block.filter(block[BROKEN].is_valid())),
    ]
    kept = places.take(pa.array(validated.positions))
    return Judged(_beside(validated.accepted, kept), pa.concat_tables(parts))


def refuse_rows(
    rows: pa.Table, reasons: Reasons, contract: Contract, pseudonymiser: Pseudonymiser | None
) -> pa.Table:
    """Turn accepted rows that are complained of into refused ones; none is lost.

    `rows` has the contract's columns, `__delivery`, `__position` and `__time`.
    """
    columns = rows.select(contract.schema.names)

    def raw(positions: Sequence[int]) -> list[Mapping[str, object]]:
        found: list[Mapping[str, object]] = columns.take(pa.array(positions)).to_pylist()
        return found

    return _refused(quarantined_rows(reasons, raw, contract, pseudonymiser), rows)


def _times(block: pa.Table, contract: Contract) -> pa.Array:
    """Read when each row was asked about; null where that cannot be read."""
    event_time = contract.by_name[contract.event_time]
    if OBJECT in block.column_names:
        rows = objects_of(block)
        times = cells_of_json([row.get(contract.event_time) for row in rows], event_time).array
    else:
        times = cells_of_arrow(block[contract.event_time], event_time).array
    return pc.subtract(times, pa.scalar(contract.lead, pa.duration("us")))


def _validated(whole: pa.Table, contract: Contract, pseudonymiser: Pseudonymiser) -> Validated:
    if OBJECT in whole.column_names:
        return validate_rows(objects_of(whole), contract, pseudonymiser=pseudonymiser)
    names = [name for name in whole.column_names if name not in (DELIVERY, POSITION, BROKEN, TIME)]
    return validate(whole.select(names), contract, pseudonymiser=pseudonymiser)


def objects_of(block: pa.Table) -> list[dict[str, object]]:
    """Read the JSON objects of a block of JSON lines."""
    return [orjson.loads(line) if line else {} for line in block[OBJECT].to_pylist()]


def _refused(quarantined: pa.Table, places: pa.Table) -> pa.Table:
    """Give quarantined rows, numbered within a block, their place in the delivery."""
    found = places.select([DELIVERY, POSITION, TIME]).take(quarantined["position"])
    parts = _beside(quarantined.drop_columns("position"), found)
    return _in_schema(parts.rename_columns({POSITION: "position"}), REFUSED)


def _broken_rows(block: pa.Table) -> pa.Table:
    row = f'{{"row":"{WITHHELD}"}}'
    reasons = [[f"row {problem}"] for problem in block[BROKEN].to_pylist()]
    content = {"row": [row] * block.num_rows, "reasons": pa.array(reasons, pa.list_(pa.string()))}
    rows = _beside(pa.table(content), block.select([DELIVERY, POSITION, TIME]))
    return _in_schema(rows.rename_columns({POSITION: "position"}), REFUSED)


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

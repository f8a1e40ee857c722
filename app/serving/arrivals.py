"""Give requested rows what the contract makes on arrival: an id, and the time.

Knows rows of parsed JSON and Arrow tables; knows nothing of where they came from or what becomes of
them.
"""

import hashlib
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import TIMESTAMP, Contract

ID_BYTES = 12
TEXT = pa.string()


def new_id() -> str:
    """Make an id for a row that came without one."""
    return f"r_{uuid.uuid4().hex}"


def arrive(
    rows: Sequence[object],
    contract: Contract,
    at: datetime,
    new_id: Callable[[], str],
    keys: Sequence[str] | None = None,
) -> Sequence[object]:
    """Complete rows that come without a generated column; what a client sends is kept.

    With idempotency keys an id is made from the row's key, so that a retry names the same row.
    """
    if not contract.generated:
        return rows
    return [
        _arrived(row, contract, at, name) if isinstance(row, dict) else row
        for row, name in zip(rows, _ids(len(rows), new_id, keys), strict=True)
    ]


def arrive_table(
    table: pa.Table,
    contract: Contract,
    at: datetime,
    new_id: Callable[[], str],
    keys: Sequence[str] | None = None,
) -> pa.Table:
    """Complete a table as `arrive` completes rows: a generated column may be absent, or have nulls.

    Ids are text, times are TIMESTAMP or ISO 8601 text.
    """
    for name in contract.generated:
        if name == contract.id:
            table = _fill(table, name, lambda size: pa.array(_ids(size, new_id, keys), TEXT))
        else:
            table = arrive_times(table, name, at)
    return table


def arrive_times(table: pa.Table, name: str, at: datetime) -> pa.Table:
    """Complete the column of times alone."""
    place = table.schema.get_field_index(name)
    is_text = place >= 0 and pa.types.is_string(table.schema.types[place])
    scalar = pa.scalar(at.isoformat()) if is_text else pa.scalar(at, TIMESTAMP)
    return _fill(table, name, partial(pa.repeat, scalar))


def _fill(table: pa.Table, name: str, make: Callable[[int], pa.Array]) -> pa.Table:
    """Add a column that is absent, or fill in what it lacks."""
    place = table.schema.get_field_index(name)
    if place < 0:
        return table.append_column(name, make(table.num_rows))
    given = table[name]
    if not given.null_count:
        return table
    return table.set_column(place, name, pc.coalesce(given, make(table.num_rows).cast(given.type)))


def _ids(number: int, new_id: Callable[[], str], keys: Sequence[str] | None) -> list[str]:
    if keys is None:
        return [new_id() for _ in range(number)]
    return [id_of(key.encode()) for key in keys]


def _arrived(
    row: dict[str, object], contract: Contract, at: datetime, row_id: str
) -> dict[str, object]:
    made = {contract.id: row_id, contract.event_time: at.isoformat()}
    absent = [name for name in contract.generated if row.get(name) is None]
    return {**row, **{name: made[name] for name in absent}}


def id_of(content: bytes, key: bytes = b"") -> str:
    """Name a row by what it was made from, so that the same names it again."""
    return f"r_{hashlib.blake2b(content, key=key, digest_size=ID_BYTES).hexdigest()}"

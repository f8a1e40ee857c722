"""Give requested rows what the contract makes on arrival: an id, and the time.

Knows rows of parsed JSON and Arrow tables; knows nothing of where they came from or what becomes of
them.
"""

import hashlib
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import TIMESTAMP, Contract

ID_BYTES = 12


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
        place = table.schema.get_field_index(name)
        if place >= 0 and not table[name].null_count:
            continue
        if name == contract.id:
            made = pa.array(_ids(table.num_rows, new_id, keys), pa.string())
        else:
            made = pa.repeat(pa.scalar(at, TIMESTAMP), table.num_rows)
        if place < 0:
            table = table.append_column(name, made)
            continue
        given = table[name]
        if pa.types.is_string(given.type) and name != contract.id:
            made = pa.repeat(at.isoformat(), table.num_rows)
        table = table.set_column(place, name, pc.coalesce(given, made.cast(given.type)))
    return table


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

"""Give requested rows what the contract makes on arrival: an id, and the time.

Knows rows of parsed JSON; knows nothing of where they came from or what becomes of them.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

from app.contracts.rows import Contract

ID_BYTES = 12


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
        _arrived(row, contract, at, new_id() if keys is None else _id_of(keys[place]))
        if isinstance(row, dict)
        else row
        for place, row in enumerate(rows)
    ]


def _arrived(
    row: dict[str, object], contract: Contract, at: datetime, row_id: str
) -> dict[str, object]:
    made = {contract.id: row_id, contract.event_time: at.isoformat()}
    absent = [name for name in contract.generated if row.get(name) is None]
    return {**row, **{name: made[name] for name in absent}}


def _id_of(key: str) -> str:
    return f"r_{hashlib.blake2b(key.encode(), digest_size=ID_BYTES).hexdigest()}"

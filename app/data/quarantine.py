"""Say why rows were refused, and render them for the quarantine table.

Knows reasons, rows as they came and which columns are personal; knows nothing of how rows are
judged or stored.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import numpy as np
import orjson
import pyarrow as pa

from app.contracts.rows import Contract
from app.data.cells import Complaint, is_nested
from app.security.privacy import Pseudonymiser

QUARANTINED = pa.schema(
    [
        pa.field("row", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
    ]
)
WITHHELD = "[withheld]"

RawRows = Callable[[Sequence[int]], Sequence[Mapping[str, object]]]


class Reasons:
    """Collect complaints by row, in the order in which they are found."""

    def __init__(self) -> None:
        """Start with none."""
        self.by_row: defaultdict[int, list[str]] = defaultdict(list)

    def add(self, subject: str, complaints: Iterable[Complaint]) -> None:
        """Note complaints about a column, or about the row as a whole."""
        for position, problem in complaints:
            self.by_row[position].append(f"{subject} {problem}")


def quarantined_rows(
    reasons: Reasons, raw: RawRows, contract: Contract, pseudonymiser: Pseudonymiser | None
) -> pa.Table:
    """Return the refused rows as QUARANTINED, in row order; `raw` fetches rows as they came."""
    refused = sorted(reasons.by_row)
    if not refused:
        return QUARANTINED.empty_table()
    content = {
        "row": [render_row(row, contract, pseudonymiser) for row in raw(refused)],
        "reasons": [reasons.by_row[position] for position in refused],
        "position": refused,
    }
    return pa.table(content, QUARANTINED)


def render_row(
    row: Mapping[str, object], contract: Contract, pseudonymiser: Pseudonymiser | None
) -> str:
    """Render a row as JSON; personal values are pseudonyms, or withheld when there is no key.

    When the contract has personal or forbidden columns, the values of columns that it does not know
    are withheld too, and values that have names of their own: one of them may be such a column in
    another place. A forbidden column is one that it does not know.
    """
    content: dict[str, object] = {}
    for name, value in row.items():
        column = contract.by_name.get(name)
        if value is None:
            content[str(name)] = None
        elif contract.guarded and (column is None or is_nested(value)):
            content[str(name)] = WITHHELD
        elif column is None:
            content[str(name)] = _plain(value)
        elif column.privacy == "personal":
            content[name] = pseudonymiser.one(_text(value)) if pseudonymiser else WITHHELD
        else:
            content[name] = _plain(value)
    return orjson.dumps(content).decode()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ascii(value)


def _plain(value: object) -> object:
    """Return what JSON can hold: no NaN, no infinity, no integer beyond 64 bits, no broken text.

    A time, or a decimal number, is written so that it can be read again: an outcome may be.
    """
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, datetime):
        # One of nanoseconds is of a class that JSON knows nothing of.
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return ascii(value)
    return value

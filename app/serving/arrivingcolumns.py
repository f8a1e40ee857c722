"""Tell whether columns that arrive can make rows of a contract, and complete those that may lack.

Knows the contract, names and Arrow; knows nothing of protocols, or of what becomes of rows.
"""

from collections.abc import Sequence

import pyarrow as pa

from app.contracts.rows import Contract
from app.data.validation import FORBIDDEN
from app.serving.messages import Refused

MAX_KEY = 200


def refuse_unknown(names: Sequence[str], contract: Contract, where: str) -> None:
    """Refuse columns that cannot make rows of the contract, before any cell is read.

    Raises Refused with 400 for names that come twice, are unknown, forbidden, or missing: no row
    can be judged then, and none is kept.
    """
    change = "compare with the columns at /v1/{model}/metadata"
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise Refused(400, where, f"{_listed(doubled)} given more than once", "send each once")
    forbidden = sorted(contract.forbidden_names.intersection(names))
    if forbidden:
        raise Refused(400, where, f"{_listed(forbidden)} {FORBIDDEN}", "send the others")
    unknown = sorted(name for name in names if name not in contract.by_name)
    if unknown:
        raise Refused(400, where, f"unknown: {_listed(unknown)}", change)
    optional = {*contract.generated, *(c.name for c in contract.columns if c.nullable)}
    missing = [n for n in contract.schema.names if n not in names and n not in optional]
    if missing:
        raise Refused(400, where, f"missing: {_listed(missing)}", change)


def with_nullable(table: pa.Table, contract: Contract) -> pa.Table:
    """Add the nullable columns that a table lacks, without values."""
    given = set(table.column_names)
    for column in contract.columns:
        if column.nullable and column.name not in given:
            nothing = pa.nulls(table.num_rows, column.arrow_type)
            table = table.append_column(column.name, nothing)
    return table


def check_keys(keys: Sequence[object], num_rows: int) -> list[str]:
    """Read idempotency keys: one a row, 1 to 200 characters each, none twice.

    Raises Refused with 400.
    """
    where, change = "idempotency_keys", "send one key a row, or none"
    if len(keys) != num_rows:
        got = f"{len(keys)} keys for {num_rows} rows"
        raise Refused(400, where, got, change)
    read = [key for key in keys if isinstance(key, str) and 0 < len(key) <= MAX_KEY]
    if len(read) != num_rows:
        got = f"{num_rows - len(read)} keys that are no texts of 1 to {MAX_KEY} characters"
        raise Refused(400, where, got, change)
    if len(set(read)) != num_rows:
        raise Refused(400, where, "a key given more than once", change)
    return read


def _listed(names: Sequence[str]) -> str:
    """Name a few names, each cut to a readable length.

    >>> _listed(["a", "b"])
    'a, b'
    """
    plain = [name[:64].encode("ascii", "backslashreplace").decode() for name in names[:10]]
    shown = ", ".join(plain)
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"

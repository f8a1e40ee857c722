"""Score rows by column: what the table path of a replica is made of.

Rows that came as columns are completed, judged, scored and recorded without becoming rows. Knows
Arrow, the contract and what a request may ask; knows nothing of HTTP, Ray, SQL or where the parts
of a replica come from.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.records import Roles
from app.contracts.rows import TIMESTAMP, Contract
from app.data.validation import FORBIDDEN
from app.serving.messages import Refused, Rejected

ARM = "champion"
MAX_KEY = 200


class Scored(NamedTuple):
    """What became of a table: records of its accepted rows' predictions, in order; the others."""

    roles: Roles
    predictions: pa.Table
    rejected: list[Rejected]


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
    for column in contract.columns:
        if column.nullable and column.name not in table.column_names:
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


def rejected_rows(quarantined: pa.Table) -> list[Rejected]:
    """Say which rows were not accepted, and why."""
    return [
        Rejected(row=row, reasons=reasons)
        for row, reasons in zip(
            quarantined["position"].to_pylist(), quarantined["reasons"].to_pylist(), strict=True
        )
    ]


def checked_probabilities(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Let no answer out that is no probability."""
    within = pc.all(
        pc.and_(pc.greater_equal(probabilities, 0.0), pc.less_equal(probabilities, 1.0))
    )
    if not within.as_py():
        raise ArithmeticError("the champion gave something that is no probability")
    return probabilities


def keys_of(
    keys: Sequence[str] | None, ids: pa.ChunkedArray, positions: npt.NDArray[np.int64]
) -> list[str]:
    """Give each accepted row its idempotency key: the one that was sent, or its id."""
    if keys is None:
        own: list[str] = ids.to_pylist()
        return own
    return [keys[position] for position in positions]


def prediction_records(
    events: pa.Table,
    probabilities: npt.NDArray[np.float64],
    keys: Sequence[str],
    roles: Roles,
    contract: Contract,
    replica: str,
) -> pa.Table:
    """Write the predictions of events that the champion answered."""
    version, size = str(roles.champion), events.num_rows
    entity = events[contract.entity] if contract.entity else pa.nulls(size, pa.string())
    return pa.table(
        {
            "prediction_id": [prediction_id(version, key) for key in keys],
            "idempotency_key": keys,
            "row_id": events[contract.id],
            "entity": entity,
            "version": pa.repeat(version, size),
            "generation": pa.repeat(roles.generation, size),
            "arm": pa.repeat(ARM, size),
            "propensity": pa.repeat(1.0, size),
            "probability": probabilities,
            "prediction_time": events["prediction_time"],
            "served_at": events["ingested_at"].cast(TIMESTAMP),
            "replica": pa.repeat(replica, size),
        }
    )


def prediction_id(version: str, key: str) -> str:
    """Name a prediction: a repeated key answered by the same version gets the same name.

    >>> prediction_id("v1", "row-7") == prediction_id("v1", "row-7")
    True
    >>> prediction_id("v1", "row-7") == prediction_id("v2", "row-7")
    False
    """
    return hashlib.blake2b(f"{version}\0{key}".encode(), digest_size=16).hexdigest()


def _listed(names: Sequence[str]) -> str:
    """Name a few names, each cut to a readable length.

    >>> _listed(["a", "b"])
    'a, b'
    """
    plain = [name[:64].encode("ascii", "backslashreplace").decode() for name in names[:10]]
    shown = ", ".join(plain)
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"

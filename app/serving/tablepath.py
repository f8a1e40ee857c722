"""Write answers as tables: predictions of accepted rows, rejected rows, keys, checked figures.

What a request of many rows needs, or one whose rows are not plainly good. Knows Arrow and messages;
knows nothing of HTTP, Ray, SQL or files.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.contracts.records import Roles
from app.contracts.rows import TIMESTAMP, Contract
from app.serving.arms import Stamp
from app.serving.guards import Finding
from app.serving.messages import Refused, Rejected
from app.serving.residents import Generation
from app.serving.rowpath import name_others, prediction_id, prediction_ids


class Made(NamedTuple):
    """What predictions were made by, when and where."""

    generation: Generation
    at: datetime
    replica: str
    stamps: Sequence[Stamp] | None = None
    """Who made each; None where the champion made all of them."""


class Turn(NamedTuple):
    """What one request is answered with: it stays the same from its first row to its last."""

    generation: Generation
    at: datetime
    keys: Sequence[str] | None
    whole: bool = False
    """Whether one row that is not acceptable refuses them all."""
    alone: bool = False
    """Whether nobody but the champion may answer."""


class Scored(NamedTuple):
    """What became of a request's rows: the records of accepted ones, in order; the others."""

    roles: Roles
    predictions: pa.Table
    rejected: list[Rejected]
    flags: Mapping[int, Sequence[Finding]]
    """What is odd about rows that were answered, by place."""
    is_mixed: bool = False
    """Whether another version than the champion may have answered some of them."""
    is_kept: bool = True
    """Whether their records are in the spool."""

    def answered(self) -> list[dict[str, Any]]:
        """Write the predictions as an answer holds them, with what is odd about their rows."""
        columns = ["row_id", "prediction_id", "probability"]
        shown: list[dict[str, Any]] = self.predictions.select(columns).to_pylist()
        versions = self.predictions["version"].to_pylist() if self.is_mixed else []
        name_others(shown, versions, self.roles.champion)
        for place, findings in self.flags.items():
            told = [{"column": finding.column, "why": finding.why} for finding in findings]
            shown[place]["flags"] = told
        return shown


def predictions_table(
    contract: Contract,
    events: pa.Table,
    probabilities: Iterable[float],
    keys: Sequence[str],
    made: Made,
) -> pa.Table:
    """Write the predictions of rows, one a row."""
    size = events.num_rows
    columns = _stamped(made, size)
    if made.stamps is None:
        names = prediction_ids(made.generation.alone.version, keys)
    else:
        stamped = zip(made.stamps, keys, strict=True)
        names = pa.array([prediction_id(stamp.version, key) for stamp, key in stamped])
    entity = events[contract.entity] if contract.entity else pa.nulls(size, pa.string())
    return pa.table(
        {
            "prediction_id": names,
            "idempotency_key": pa.array(keys, pa.string()),
            "row_id": events[contract.id],
            "entity": entity,
            **columns,
            "probability": probabilities,
            "prediction_time": events["prediction_time"],
            "served_at": pa.repeat(pa.scalar(made.at, TIMESTAMP), size),
            "replica": pa.repeat(made.replica, size),
        }
    )


def _stamped(made: Made, size: int) -> dict[str, pa.Array]:
    if made.stamps is None:
        alone = made.generation.alone
        return {name: pa.repeat(value, size) for name, value in alone._asdict().items()}
    columns = zip(*made.stamps, strict=True)
    return {name: pa.array(cells) for name, cells in zip(Stamp._fields, columns, strict=True)}


def row_keys(
    keys: Sequence[str] | None, ids: pa.ChunkedArray, positions: npt.NDArray[np.int64]
) -> list[str]:
    """Give each accepted row its idempotency key: the one that was sent, or its id."""
    if keys is None:
        own: list[str] = ids.to_pylist()
        return own
    return [keys[position] for position in positions]


def rejected_rows(quarantined: pa.Table) -> list[Rejected]:
    """Say where each quarantined row stood, and every reason."""
    return [
        Rejected(row=row, reasons=reasons)
        for row, reasons in zip(
            quarantined["position"].to_pylist(), quarantined["reasons"].to_pylist(), strict=True
        )
    ]


def checked_probabilities(given: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Let no answer out that is no probability. Raises ArithmeticError."""
    probabilities = np.asarray(given, np.float64)
    # A NaN is within nothing.
    if not ((probabilities >= 0.0) & (probabilities <= 1.0)).all():
        raise ArithmeticError("the version gave something that is no probability")
    return probabilities


def none_scored(num_good: int, rejected: list[Rejected], whole: bool) -> Refused:
    """Say why nothing was scored, of some good rows perhaps: 400 where whole requests are asked."""
    num_rows = num_good + len(rejected)
    if num_good or whole:
        got = f"{len(rejected)} of {num_rows} are not acceptable and none was scored"
        change = "mend those and send all of them again"
        return Refused(400 if whole else 422, "rows", got, change).because(rejected)
    got = f"none of {num_rows} rows is acceptable"
    return Refused(422, "rows", got, "mend the rows, see rejected").because(rejected)

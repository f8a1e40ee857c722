"""Write answers as tables: predictions of accepted rows, rejected rows, keys, checked figures.

What a request of many rows needs, or one whose rows are not plainly good. Knows Arrow and messages;
knows nothing of HTTP, Ray, SQL or files.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import TIMESTAMP, Contract
from app.serving.arms import Stamp
from app.serving.messages import PredictRequest, Rejected
from app.serving.residents import Generation
from app.serving.rowpath import prediction_id


class Made(NamedTuple):
    """What predictions were made by, when and where."""

    generation: Generation
    at: datetime
    replica: str
    stamps: Sequence[Stamp] | None = None
    """Who made each; None where the champion made all of them."""


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
    versions = columns["version"].to_pylist()
    entity = events[contract.entity] if contract.entity else pa.nulls(size, pa.string())
    return pa.table(
        {
            "prediction_id": [
                prediction_id(version, key) for version, key in zip(versions, keys, strict=True)
            ],
            "idempotency_key": keys,
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
    request: PredictRequest, ids: pa.ChunkedArray, positions: npt.NDArray[np.int64]
) -> list[str]:
    """Give each accepted row its idempotency key."""
    if request.idempotency_keys is None:
        keys: list[str] = ids.to_pylist()
        return keys
    return [request.idempotency_keys[position] for position in positions]


def rejected_rows(quarantined: pa.Table) -> list[Rejected]:
    """Say where each quarantined row stood, and every reason."""
    return [
        Rejected(row=row, reasons=reasons)
        for row, reasons in zip(
            quarantined["position"].to_pylist(), quarantined["reasons"].to_pylist(), strict=True
        )
    ]


def checked_probabilities(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Let no answer out that is no probability. Raises ArithmeticError."""
    within = pc.all(
        pc.and_(pc.greater_equal(probabilities, 0.0), pc.less_equal(probabilities, 1.0))
    )
    if not within.as_py():
        raise ArithmeticError("the version gave something that is no probability")
    return probabilities

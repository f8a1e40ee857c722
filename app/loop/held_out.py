"""Find the rows that shaped nothing in a version: held out by day or by share, or younger than it.

Knows versions, rows and keys; knows nothing of where rows come from or how they are compared.
"""

from datetime import UTC

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.contracts.records import ModelVersion
from app.contracts.rows import TIMESTAMP, Contract
from app.contracts.times import day_numbers, day_of
from app.data.splits import key_places, parts_of, split_keys


def places(rows: pa.Table, version: ModelVersion, contract: Contract) -> NDArray[np.float64]:
    """Place every row where the version's split placed it; only where it was divided by share."""
    share = version.held_out_share
    assert share is not None
    return key_places(split_keys(rows, share.by, contract.id, contract.entity), share.seed)


def held_out(rows: pa.Table, version: ModelVersion, contract: Contract) -> NDArray[np.bool_]:
    """Tell which rows a version kept for the gate."""
    if version.held_out_share is not None:
        kept: NDArray[np.bool_] = places(rows, version, contract) < version.held_out_share.share
        return kept
    dates = [day_of(number).isoformat() for number in day_numbers(rows["prediction_time"])]
    return np.isin(dates, version.held_out_days)


def outside(rows: pa.Table, version: ModelVersion, contract: Contract) -> NDArray[np.bool_]:
    """Tell which rows shaped nothing in a version: it kept them, or they are younger than it."""
    end = pa.scalar(version.trained_until.astimezone(UTC), TIMESTAMP)
    younger = pc.greater_equal(rows["prediction_time"], end)
    is_younger: NDArray[np.bool_] = younger.combine_chunks().to_numpy(zero_copy_only=False)
    return held_out(rows, version, contract) | is_younger


def parts(rows: pa.Table, version: ModelVersion, contract: Contract) -> NDArray[np.int64]:
    """Number the parts in which held-out rows are compared, as others are day by day."""
    assert version.held_out_share is not None
    return parts_of(places(rows, version, contract), version.held_out_share.share)

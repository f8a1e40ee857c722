"""Say what is known about outcomes at a time.

Knows label revisions; knows nothing of rows or models. An outcome has two times: `known_at`, when
it became known, and `received_at`, when it reached the table. A revision replaces an earlier one of
the same row.
"""

from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import TIMESTAMP

KNOWN_LABELS = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("label", pa.int8()),
        pa.field("void", pa.bool_(), nullable=False),
        pa.field("known_at", TIMESTAMP, nullable=False),
    ]
)


def known_labels(labels: pa.Table, at: datetime) -> pa.Table:
    """Return one row per outcome known at a time: the revision known last, then received last.

    Revisions that agree in both times and contradict each other are settled against the label: void
    wins over a label, 1 over 0, so that the answer depends on no order. Sorted by row id.
    """
    labels = labels.filter(pc.less_equal(labels["known_at"], pa.scalar(at, TIMESTAMP)))
    if labels.num_rows == 0:
        return KNOWN_LABELS.empty_table()
    order = np.lexsort(
        (
            _numbers(labels["label"].cast(pa.int64()).fill_null(-1)),
            _numbers(labels["void"].cast(pa.int64())),
            _numbers(labels["received_at"].cast(pa.int64())),
            _numbers(labels["known_at"].cast(pa.int64())),
            _ranks(labels["row_id"]),
        )
    )
    ids = _ranks(labels["row_id"])[order]
    last = order[np.append(ids[1:] != ids[:-1], True)]
    return labels.select(KNOWN_LABELS.names).take(pa.array(last)).cast(KNOWN_LABELS)


def _ranks(ids: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Number the ids in the order of their text."""
    encoded = pc.dictionary_encode(ids.combine_chunks())
    places = np.empty(len(encoded.dictionary), np.int64)
    places[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(places))
    ranks: npt.NDArray[np.int64] = places[encoded.indices.to_numpy()]
    return ranks


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    numbers: npt.NDArray[np.int64] = column.to_numpy()
    return numbers

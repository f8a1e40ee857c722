"""Say what is known about outcomes at a time.

Knows label revisions; knows nothing of rows or models. The times of an outcome, in the order in
which they usually pass:

- prediction time: when the question was asked;
- event time: when the thing itself happened or was due;
- `known_at`: when its outcome became known in the world;
- `received_at`: when that report reached us, its arrival.

A report is never changed: a later one about the same row is a revision, appended beside it. What
holds is decided when somebody asks, from all reports that count then, in whatever order they came.
"""

from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import TIMESTAMP
from app.contracts.targets import LABEL_TYPES


def known_schema(label: pa.DataType) -> pa.Schema:
    """Give the columns of outcomes whose labels are of a type; see Contract.label_type."""
    return pa.schema(
        [
            pa.field("row_id", pa.string(), nullable=False),
            pa.field("label", label),
            pa.field("void", pa.bool_(), nullable=False),
            pa.field("known_at", TIMESTAMP, nullable=False),
        ]
    )


KNOWN_LABELS = known_schema(LABEL_TYPES["binary"])


def known_labels(labels: pa.Table, at: datetime, received_by: datetime | None = None) -> pa.Table:
    """Return one row per outcome known at a time: the revision known last, then received last.

    Two cuts, each inclusive. `at` cuts by what the world knew; `received_by` by what had reached
    us, and `received_by=at` gives what we ourselves knew then. Without it every report counts that
    the table holds, whenever it came: that is right for history brought in long after it was known,
    and for a pinned version of the table, which is a cut by arrival already.

    Revisions that agree in both times and contradict each other are settled against the label: void
    wins over a label, and the larger label over the smaller, so that the answer depends on no
    order. Sorted by row id; labels stay of the type that they come in.
    """
    schema = known_schema(labels.schema.field("label").type)
    labels = labels.filter(pc.less_equal(labels["known_at"], pa.scalar(at, TIMESTAMP)))
    if received_by is not None:
        arrived = pc.less_equal(labels["received_at"], pa.scalar(received_by, TIMESTAMP))
        labels = labels.filter(arrived)
    if labels.num_rows == 0:
        return schema.empty_table()
    order = np.lexsort(
        (
            _sizes(labels["label"]),
            _numbers(labels["void"].cast(pa.int64())),
            _numbers(labels["received_at"].cast(pa.int64())),
            _numbers(labels["known_at"].cast(pa.int64())),
            _ranks(labels["row_id"]),
        )
    )
    ids = _ranks(labels["row_id"])[order]
    last = order[np.append(ids[1:] != ids[:-1], True)]
    return labels.select(schema.names).take(pa.array(last)).cast(schema)


def _sizes(labels: pa.ChunkedArray) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
    """Give what contradicting labels are compared by; only void outcomes, which win, have none."""
    if not pa.types.is_floating(labels.type):
        return _numbers(labels.cast(pa.int64()).fill_null(-1))
    sizes: npt.NDArray[np.float64] = labels.fill_null(-np.inf).to_numpy()
    return sizes


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

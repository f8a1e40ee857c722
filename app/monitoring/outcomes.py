"""Join predictions with what was known of their outcomes at a time.

Knows predictions and label reports; knows nothing of figures, files or Ray.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.times import micros_in
from app.data.labels import known_labels
from app.monitoring.distinct import whole


@dataclass(frozen=True)
class Outcomes:
    """Rows with a known outcome: labels and probabilities [rows], ordered by time and key.

    Void predictions are counted apart; of pending ones the prediction times are given, in
    microseconds since 1970.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    num_void: int
    pending_since: np.ndarray

    @property
    def num_known(self) -> int:
        """Predictions whose outcome is known and not void."""
        return len(self.labels)

    @property
    def num_pending(self) -> int:
        """Predictions whose outcome is awaited."""
        return len(self.pending_since)

    @property
    def num_closed(self) -> int:
        """Predictions that nothing more is awaited for."""
        return self.num_known + self.num_void


def outcomes_of(
    predictions: pa.Table, labels: pa.Table, at: datetime, received_by: datetime | None
) -> Outcomes:
    """Join predictions (`row_id`, `key`, `prediction_time`, `probability`) with labels.

    The cuts are those of known_labels. Every prediction counts, also several of one row.
    """
    known = known_labels(labels, at, received_by)
    # The bootstrap draws by position: positions must not depend on the order of arrival.
    rows = predictions.sort_by([("prediction_time", "ascending"), ("key", "ascending")])
    place = pc.index_in(rows["row_id"], value_set=whole(known["row_id"]))
    void = pc.fill_null(known["void"].take(place), False).to_numpy()
    label = pc.fill_null(known["label"].take(place), -1).to_numpy()
    counted = (label >= 0) & ~void
    return Outcomes(
        labels=label[counted].astype(np.int64),
        probabilities=rows["probability"].to_numpy()[counted],
        num_void=int(void.sum()),
        pending_since=micros_in(rows["prediction_time"]).filter(pc.is_null(place)).to_numpy(),
    )

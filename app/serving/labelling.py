"""Read outcomes that clients report, one by one, and write them as rows of the labels table.

Knows messages and the erased; knows nothing of HTTP, spools or versions.
"""

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa
from pydantic import ValidationError

from app.contracts.rows import TIMESTAMP
from app.data.forgetting import ERASED
from app.security.tombstones import Tombstones
from app.serving.messages import Label, Rejected, explain


def read_label(item: object, now: datetime, erased: Tombstones) -> tuple[str, Label | None]:
    """Read one outcome, or say why it is refused."""
    try:
        label = Label.model_validate(item)
    except ValidationError as error:
        return explain(error), None
    if erased.is_row(label.row_id):
        return ERASED, None
    if label.known_at is not None and label.known_at > now:
        return (
            f"known_at {label.known_at.isoformat()} is in the future, it is {now.isoformat()}",
            None,
        )
    return "", label


def read_labels(
    items: Sequence[object], now: datetime, erased: Tombstones
) -> tuple[list[Label], list[Rejected]]:
    """Read outcomes: those that are acceptable, and the others with their places and reasons."""
    accepted: list[Label] = []
    rejected: list[Rejected] = []
    for position, item in enumerate(items):
        reason, label = read_label(item, now, erased)
        if label is not None:
            accepted.append(label)
        else:
            rejected.append(Rejected(row=position, reasons=[reason]))
    return accepted, rejected


def labels_table(labels: Sequence[Label], now: datetime, source: str) -> pa.Table:
    """Write outcomes that came now from a source."""
    return pa.table(
        {
            "row_id": [label.row_id for label in labels],
            "label": pa.array([label.label for label in labels], pa.int8()),
            "void": [label.void for label in labels],
            "known_at": pa.array([label.known_at or now for label in labels], TIMESTAMP),
            "received_at": pa.repeat(pa.scalar(now, TIMESTAMP), len(labels)),
            "source": pa.repeat(source, len(labels)),
        }
    )

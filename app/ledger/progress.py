"""How far each part of the product has come, and what it says it is doing.

Knows watermarks and details; knows nothing of who waits for them.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Text, column, delete, insert, select, table

from app.ledger.database import Ledger, UtcTime

PROGRESS = table(
    "progress",
    column("model", Text),
    column("part", Text),
    column("watermark", UtcTime),
    column("detail", Text),
    column("updated_at", UtcTime),
)


class Progress(NamedTuple):
    """One part's last word."""

    part: str
    watermark: datetime
    detail: dict[str, Any]
    updated_at: datetime


def write_progress(connection: Connection, model: str, progress: Progress) -> None:
    """Replace a part's progress, inside the caller's transaction."""
    mine = (PROGRESS.c.model == model) & (PROGRESS.c.part == progress.part)
    connection.execute(delete(PROGRESS).where(mine))
    connection.execute(
        insert(PROGRESS).values(
            model=model,
            part=progress.part,
            watermark=progress.watermark,
            detail=_write(progress.detail),
            updated_at=progress.updated_at,
        )
    )


def read_progress(ledger: Ledger, model: str) -> dict[str, Progress]:
    """Read every part's progress by the part's name."""
    with ledger.reading() as connection:
        rows = connection.execute(select(PROGRESS).where(PROGRESS.c.model == model))
        return {
            row.part: Progress(row.part, row.watermark, orjson.loads(row.detail), row.updated_at)
            for row in rows
        }


def _write(detail: Mapping[str, Any]) -> str:
    return orjson.dumps(
        dict(detail), option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
    ).decode()

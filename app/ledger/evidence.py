"""Keep what monitoring found, together with how far it had read when it found it.

Knows rows of evidence, the monitor's state as bytes, and offsets; knows nothing of what they say.
Evidence, state and offsets change in one transaction, so that a monitor killed at any instant
counts nothing twice.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, LargeBinary, Text, column, delete, insert, select, table

from app.contracts.records import Evidence
from app.ledger.database import Ledger, UtcTime
from app.ledger.epochs import check_epoch
from app.ledger.epochs import monitor_name as monitor_name
from app.ledger.progress import Progress, write_progress

EVIDENCE = table(
    "evidence",
    column("model", Text),
    column("version", Text),
    column("ended", UtcTime),
    column("record", Text),
)
FOLDS = table(
    "folds",
    column("model", Text),
    column("state", LargeBinary),
    column("offsets", Text),
    column("watermark", UtcTime),
)


class Fold(NamedTuple):
    """Where the monitor stands."""

    state: bytes
    offsets: dict[str, int]
    watermark: datetime


def record_fold(
    ledger: Ledger,
    model: str,
    evidence: Sequence[Evidence],
    offsets: Mapping[str, int],
    state: bytes,
    watermark: datetime,
    detail: Mapping[str, Any],
    updated_at: datetime | None = None,
    epoch: int | None = None,
) -> int:
    """Write evidence, state, offsets and the monitor's progress in one transaction.

    Evidence for a (model, version, end) that is already there is left as it is. Returns how many
    were new. With an epoch (taken for `monitor_name(model)`), a replaced monitor is refused with
    Fenced.
    """
    with ledger.transaction() as connection:
        if epoch is not None:
            check_epoch(connection, monitor_name(model), epoch)
        num_new = sum(_record_evidence(connection, item) for item in evidence)
        connection.execute(delete(FOLDS).where(FOLDS.c.model == model))
        connection.execute(
            insert(FOLDS).values(
                model=model,
                state=state,
                offsets=orjson.dumps(dict(offsets), option=orjson.OPT_SORT_KEYS).decode(),
                watermark=watermark,
            )
        )
        write_progress(
            connection, model, Progress("monitor", watermark, dict(detail), updated_at or watermark)
        )
    return num_new


def read_fold(ledger: Ledger, model: str) -> Fold | None:
    """Read where the monitor stood at its last transaction; None before the first."""
    with ledger.reading() as connection:
        row = connection.execute(select(FOLDS).where(FOLDS.c.model == model)).first()
    return None if row is None else Fold(bytes(row.state), orjson.loads(row.offsets), row.watermark)


def read_evidence(
    ledger: Ledger,
    model: str,
    until: datetime | None = None,
    version: str | None = None,
    limit: int | None = None,
) -> list[Evidence]:
    """List evidence of windows ended by `until`, oldest first; `limit` keeps the newest."""
    query = select(EVIDENCE.c.record).where(EVIDENCE.c.model == model)
    if until is not None:
        query = query.where(EVIDENCE.c.ended <= until)
    if version is not None:
        query = query.where(EVIDENCE.c.version == version)
    query = query.order_by(EVIDENCE.c.ended.desc(), EVIDENCE.c.version.desc()).limit(limit)
    with ledger.reading() as connection:
        found = [Evidence.model_validate_json(row.record) for row in connection.execute(query)]
    return found[::-1]


def _record_evidence(connection: Connection, item: Evidence) -> int:
    there = select(EVIDENCE.c.ended).where(
        EVIDENCE.c.model == item.model,
        EVIDENCE.c.version == item.version,
        EVIDENCE.c.ended == item.end,
    )
    if connection.execute(there).first() is not None:
        return 0
    connection.execute(
        insert(EVIDENCE).values(
            model=item.model,
            version=item.version,
            ended=item.end,
            record=item.model_dump_json(),
        )
    )
    return 1

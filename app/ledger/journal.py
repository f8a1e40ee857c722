"""The journal: what was meant, what was done, in an order that cannot be altered unseen.

Knows entries and their hash chain; knows nothing of what a kind of entry means.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
from sqlalchemy import BigInteger, Connection, Text, column, insert, select, table

from app.ledger.database import Ledger, UtcTime

JOURNAL = table(
    "journal",
    column("sequence", BigInteger),
    column("model", Text),
    column("kind", Text),
    column("at", UtcTime),
    column("payload", Text),
    column("previous", Text),
    column("digest", Text),
)
_FIRST = "0" * 64


class Entry(NamedTuple):
    """One line of the journal."""

    sequence: int
    model: str
    kind: str
    at: datetime
    payload: dict[str, object]
    digest: str


def append(
    connection: Connection, model: str, kind: str, payload: Mapping[str, object], at: datetime
) -> Entry:
    """Add an entry to the end of the chain, inside the caller's writing transaction."""
    newest = (
        select(JOURNAL.c.sequence, JOURNAL.c.digest).order_by(JOURNAL.c.sequence.desc()).limit(1)
    )
    last = connection.execute(newest).first()
    sequence, previous = (last.sequence + 1, last.digest) if last else (1, _FIRST)
    written = orjson.dumps(dict(payload), option=orjson.OPT_SORT_KEYS).decode()
    digest = _digest(previous, sequence, model, kind, at, written)
    connection.execute(
        insert(JOURNAL).values(
            sequence=sequence,
            model=model,
            kind=kind,
            at=at,
            payload=written,
            previous=previous,
            digest=digest,
        )
    )
    return Entry(sequence, model, kind, at, dict(payload), digest)


def entries(ledger: Ledger, model: str, after: int = 0) -> list[Entry]:
    """List a model's entries behind a sequence number, oldest first."""
    query = (
        select(JOURNAL)
        .where(JOURNAL.c.model == model, JOURNAL.c.sequence > after)
        .order_by(JOURNAL.c.sequence)
    )
    with ledger.reading() as connection:
        return [
            Entry(row.sequence, row.model, row.kind, row.at, orjson.loads(row.payload), row.digest)
            for row in connection.execute(query)
        ]


def verify(ledger: Ledger) -> list[str]:
    """Recompute the chain and name every entry that is missing, moved or altered.

    A journal cut off at its end still verifies: keep the last digest elsewhere to notice that.
    """
    problems: list[str] = []
    expected, previous = 1, _FIRST
    with ledger.reading() as connection:
        for row in connection.execute(select(JOURNAL).order_by(JOURNAL.c.sequence)):
            if row.sequence != expected:
                problems.append(f"journal: entry {expected} is missing before entry {row.sequence}")
            elif row.previous != previous:
                problems.append(f"journal: entry {row.sequence} does not follow the one before it")
            digest = _digest(row.previous, row.sequence, row.model, row.kind, row.at, row.payload)
            if digest != row.digest:
                problems.append(f"journal: entry {row.sequence} ({row.kind}) was altered")
            expected, previous = row.sequence + 1, row.digest
    return problems


def _digest(previous: str, sequence: int, model: str, kind: str, at: datetime, payload: str) -> str:
    moment = at.astimezone(UTC).isoformat(timespec="microseconds")
    content = orjson.dumps([previous, sequence, model, kind, moment, payload])
    return hashlib.sha256(content).hexdigest()

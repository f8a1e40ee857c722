"""What each serving replica said last: that it lives, what it follows, what it holds.

Knows heartbeats; knows nothing of why roles change or of Ray. Heartbeats are on the machine's
clock, not the driven one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import BigInteger, Double, Row, Text, column, delete, insert, select, table

from app.ledger.database import Ledger

REPLICAS = table(
    "replicas",
    column("model", Text),
    column("replica", Text),
    column("generation", BigInteger),
    column("resident", Text),
    column("problems", Text),
    column("seen", Double),
)
LIVE_SECONDS = 10.0


class Replica(NamedTuple):
    """One serving replica's last word. `seen` is wall time in seconds since 1970."""

    replica: str
    generation: int
    resident: tuple[str, ...]
    problems: dict[str, str]
    seen: float


def acknowledge(
    ledger: Ledger,
    model: str,
    replica: str,
    generation: int,
    resident: Sequence[str],
    wall: float,
    problems: Mapping[str, str] | None = None,
) -> None:
    """Say that a replica lives, what it follows, what it holds and what it cannot load.

    `wall` is the machine's time in seconds since 1970; `problems` maps a version's digest to the
    reason.
    """
    mine = (REPLICAS.c.model == model) & (REPLICAS.c.replica == replica)
    with ledger.transaction() as connection:
        connection.execute(delete(REPLICAS).where(mine))
        connection.execute(
            insert(REPLICAS).values(
                model=model,
                replica=replica,
                generation=generation,
                resident=orjson.dumps(list(resident)).decode(),
                problems=orjson.dumps(dict(problems or {})).decode(),
                seen=wall,
            )
        )


def retire_replica(ledger: Ledger, model: str, replica: str) -> None:
    """Take a replica that ends in good order off the list, so that nobody waits for it."""
    with ledger.transaction() as connection:
        connection.execute(
            delete(REPLICAS).where(REPLICAS.c.model == model, REPLICAS.c.replica == replica)
        )


def live_replicas(
    ledger: Ledger, model: str, wall: float, within_seconds: float = LIVE_SECONDS
) -> list[Replica]:
    """List the replicas that were heard of lately, by name."""
    query = (
        select(REPLICAS)
        .where(REPLICAS.c.model == model, REPLICAS.c.seen >= wall - within_seconds)
        .order_by(REPLICAS.c.replica)
    )
    with ledger.reading() as connection:
        return [_replica(row) for row in connection.execute(query)]


def _replica(row: Row[Any]) -> Replica:
    return Replica(
        replica=row.replica,
        generation=row.generation,
        resident=tuple(orjson.loads(row.resident)),
        problems=orjson.loads(row.problems),
        seen=row.seen,
    )

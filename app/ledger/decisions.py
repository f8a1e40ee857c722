"""Decisions: recorded before the act, completed after it.

Knows keys, order and outcomes; knows nothing of how an action is carried out.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import BigInteger, Connection, Row, Text, column, insert, select, table, update

from app.contracts.records import Action, Decision
from app.ledger.database import Ledger, UtcTime

DECISIONS = table(
    "decisions",
    column("key", Text),
    column("model", Text),
    column("sequence", BigInteger),
    column("at", UtcTime),
    column("action", Text),
    column("epoch", BigInteger),
    column("outcome", Text),
)


class DecisionMissing(ValueError):
    """An act without a recorded decision."""


def record_decision(connection: Connection, decision: Decision, sequence: int) -> None:
    """Record what is about to be done, inside the caller's transaction."""
    connection.execute(
        insert(DECISIONS).values(
            key=decision.key,
            model=decision.model,
            sequence=sequence,
            at=decision.at,
            action=decision.action.model_dump_json(),
            epoch=decision.epoch,
            outcome=None,
        )
    )


def complete_decision(connection: Connection, key: str, outcome: Mapping[str, object]) -> None:
    """Write down how a decision ended; an outcome is written once."""
    written = orjson.dumps(dict(outcome), option=orjson.OPT_SORT_KEYS).decode()
    waiting = (DECISIONS.c.key == key) & DECISIONS.c.outcome.is_(None)
    changed = connection.execute(update(DECISIONS).where(waiting).values(outcome=written))
    if changed.rowcount != 1:
        raise DecisionMissing(f"decision {key}: not recorded, or already completed")


def find_decision(connection: Connection, key: str) -> Decision | None:
    """Find a decision by its key, inside the caller's transaction."""
    row = connection.execute(select(DECISIONS).where(DECISIONS.c.key == key)).first()
    return None if row is None else _decision(row)


def open_decision(ledger: Ledger, model: str) -> Decision | None:
    """Find the decision that is still under way, if any."""
    with ledger.reading() as connection:
        return find_open(connection, model)


def find_open(connection: Connection, model: str) -> Decision | None:
    """Find the decision that is still under way, inside the caller's transaction."""
    query = (
        select(DECISIONS)
        .where(DECISIONS.c.model == model, DECISIONS.c.outcome.is_(None))
        .order_by(DECISIONS.c.sequence)
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else _decision(row)


def read_decisions(ledger: Ledger, model: str, limit: int | None = None) -> list[Decision]:
    """List decisions, oldest first; `limit` keeps the newest so many."""
    query = (
        select(DECISIONS)
        .where(DECISIONS.c.model == model)
        .order_by(DECISIONS.c.sequence.desc())
        .limit(limit)
    )
    with ledger.reading() as connection:
        found = [_decision(row) for row in connection.execute(query)]
    return found[::-1]


def _decision(row: Row[Any]) -> Decision:
    return Decision(
        key=row.key,
        model=row.model,
        at=row.at,
        action=Action.model_validate_json(row.action),
        epoch=row.epoch,
        outcome=None if row.outcome is None else orjson.loads(row.outcome),
    )

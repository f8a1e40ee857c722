"""What replicas have answered and not kept: from when to when, of which table, why, how many rows.

Knows counts and times; knows nothing of rows. A replica writes its whole count of a gap, not what
was added: writing it twice changes nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, Text, column, delete, insert, select, table

from app.ledger.database import Ledger, UtcTime

LOSSES = table(
    "losses",
    column("model", Text),
    column("replica", Text),
    column("lost_from", Text),
    column("reason", Text),
    column("first_at", UtcTime),
    column("last_at", UtcTime),
    column("num_rows", BigInteger),
)


class Loss(NamedTuple):
    """Rows of one table that one replica answered and could not keep, for one reason."""

    replica: str
    table: str
    reason: str
    first_at: datetime
    last_at: datetime
    num_rows: int


def write_losses(ledger: Ledger, model: str, losses: Sequence[Loss]) -> None:
    """Write what replicas have lost; of a gap that was written before, how far it has come."""
    with ledger.transaction() as connection:
        for loss in losses:
            same = (LOSSES.c.model == model) & (LOSSES.c.replica == loss.replica)
            same &= (LOSSES.c.lost_from == loss.table) & (LOSSES.c.reason == loss.reason)
            same &= LOSSES.c.first_at == loss.first_at
            connection.execute(delete(LOSSES).where(same))
            connection.execute(
                insert(LOSSES).values(
                    model=model,
                    replica=loss.replica,
                    lost_from=loss.table,
                    reason=loss.reason,
                    first_at=loss.first_at,
                    last_at=loss.last_at,
                    num_rows=loss.num_rows,
                )
            )


def read_losses(ledger: Ledger, model: str) -> list[Loss]:
    """Read what is known to be lost of a model, the oldest gap first."""
    query = select(LOSSES).where(LOSSES.c.model == model)
    query = query.order_by(LOSSES.c.first_at, LOSSES.c.replica, LOSSES.c.lost_from)
    with ledger.reading() as connection:
        return [
            Loss(
                row.replica, row.lost_from, row.reason, row.first_at, row.last_at, int(row.num_rows)
            )
            for row in connection.execute(query)
        ]

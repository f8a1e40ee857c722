"""How many rows each caller has asked for on a day, by the replica that counted them.

Knows counts; knows nothing of limits. Callers are named by who writes: never by what would tell a
person. A replica writes its whole count, not what was added: writing it twice changes nothing.
"""

from collections.abc import Mapping
from datetime import date

from sqlalchemy import BigInteger, Text, column, delete, func, insert, select, table

from app.ledger.database import Ledger

USAGE = table(
    "usage",
    column("model", Text),
    column("day", Text),
    column("caller", Text),
    column("replica", Text),
    column("num_rows", BigInteger),
)


def write_usage(
    ledger: Ledger, model: str, replica: str, day: date, counts: Mapping[str, int]
) -> None:
    """Replace a replica's counts of a day by caller, and forget the days before it."""
    mine = (USAGE.c.model == model) & (USAGE.c.day == day.isoformat())
    mine &= USAGE.c.replica == replica
    rows = [
        {
            "model": model,
            "day": day.isoformat(),
            "caller": caller,
            "replica": replica,
            "num_rows": number,
        }
        for caller, number in counts.items()
    ]
    with ledger.transaction() as connection:
        past = (USAGE.c.model == model) & (USAGE.c.day < day.isoformat())
        connection.execute(delete(USAGE).where(past))
        connection.execute(delete(USAGE).where(mine))
        if rows:
            connection.execute(insert(USAGE), rows)


def read_usage(
    ledger: Ledger, model: str, day: date, other_than: str, at_most: int
) -> dict[str, int]:
    """Give what all replicas but one have counted on a day, by caller; the largest counts first."""
    total = func.sum(USAGE.c.num_rows)
    query = (
        select(USAGE.c.caller, total)
        .where(USAGE.c.model == model, USAGE.c.day == day.isoformat())
        .where(USAGE.c.replica != other_than)
        .group_by(USAGE.c.caller)
        .order_by(total.desc())
        .limit(at_most)
    )
    with ledger.reading() as connection:
        return {caller: int(number) for caller, number in connection.execute(query)}

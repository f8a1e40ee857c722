"""Fencing epochs: of two holders of one name, only the newer one may write.

Knows names and numbers; knows nothing of what they protect. A lease alone does not stop a holder
that was asleep: the epoch is checked inside the transaction that writes.
"""

from sqlalchemy import BigInteger, Connection, Text, column, insert, select, table, update

from app.ledger.database import Ledger

EPOCHS = table("epochs", column("name", Text), column("epoch", BigInteger))


class Fenced(RuntimeError):
    """Somebody newer holds the name: stop, and change nothing."""


def steward_name(model: str) -> str:
    """Name under which a model's steward takes its epoch."""
    return f"steward:{model}"


def monitor_name(model: str) -> str:
    """Name under which a model's monitor takes its epoch."""
    return f"monitor:{model}"


def take_epoch(ledger: Ledger, name: str) -> int:
    """Become the newest holder of a name; every older holder is fenced from now on."""
    with ledger.transaction() as connection:
        return next_epoch(connection, name)


def next_epoch(connection: Connection, name: str) -> int:
    """Fence every holder of a name, inside the caller's transaction, and give the new epoch."""
    current = current_epoch(connection, name)
    if current == 0:
        connection.execute(insert(EPOCHS).values(name=name, epoch=1))
    else:
        connection.execute(update(EPOCHS).where(EPOCHS.c.name == name).values(epoch=current + 1))
    return current + 1


def check_epoch(connection: Connection, name: str, epoch: int) -> None:
    """Raise Fenced, inside the caller's transaction, unless this epoch is the newest."""
    current = current_epoch(connection, name)
    if current != epoch:
        raise Fenced(f"{name}: epoch {epoch} was replaced by epoch {current}")


def current_epoch(connection: Connection, name: str) -> int:
    """Give the epoch of whoever holds a name, inside the caller's transaction; 0 for nobody."""
    found = connection.execute(select(EPOCHS.c.epoch).where(EPOCHS.c.name == name)).scalar()
    return 0 if found is None else int(found)

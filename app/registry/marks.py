"""Mark versions that had learned from rows which were erased since.

Knows versions, their snapshots and which erasure reduced those; knows nothing of rows. A mark
stays: the version keeps what it learned until another one takes its place.
"""

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, Text, column, insert, select, table

from app.contracts.records import ModelVersion
from app.ledger.database import Ledger
from app.ledger.erasures import REDUCTIONS

MARKS = table(
    "erased_versions", column("receipt", Text), column("digest", Text), column("model", Text)
)


def learned_from(versions: Iterable[ModelVersion], snapshots: Collection[str]) -> tuple[str, ...]:
    """Name the versions that learned from some snapshots, and those made from such versions.

    Versions come oldest first; snapshots are named by their digests.
    """
    found: dict[str, None] = {}
    for version in versions:
        if version.dataset.digest in snapshots or version.parent in found:
            found[version.digest] = None
    return tuple(found)


def mark_versions(connection: Connection, model: str, receipt: str, digests: Iterable[str]) -> None:
    """Mark versions with an erasure's receipt, inside the caller's transaction."""
    mine = select(MARKS.c.digest).where(MARKS.c.receipt == receipt)
    marked = {row.digest for row in connection.execute(mine)}
    for digest in dict.fromkeys(digests):
        if digest not in marked:
            connection.execute(insert(MARKS).values(receipt=receipt, digest=digest, model=model))


def mark_new_version(connection: Connection, version: ModelVersion) -> None:
    """Mark a version whose training began before an erasure and ended after it."""
    same_rows = (REDUCTIONS.c.model == version.model) & (
        REDUCTIONS.c.snapshot == version.dataset.digest
    )
    receipts = {
        row.receipt for row in connection.execute(select(REDUCTIONS.c.receipt).where(same_rows))
    }
    of_parent = (MARKS.c.model == version.model) & (MARKS.c.digest == version.parent)
    if version.parent is not None:
        receipts |= {
            row.receipt for row in connection.execute(select(MARKS.c.receipt).where(of_parent))
        }
    for receipt in sorted(receipts):
        mark_versions(connection, version.model, receipt, [version.digest])


def erased_versions(ledger: Ledger, model: str) -> dict[str, tuple[str, ...]]:
    """Give the receipts of the erasures of what each marked version had learned from."""
    query = select(MARKS).where(MARKS.c.model == model).order_by(MARKS.c.digest, MARKS.c.receipt)
    marks: dict[str, tuple[str, ...]] = {}
    with ledger.reading() as connection:
        for row in connection.execute(query):
            marks[row.digest] = (*marks.get(row.digest, ()), row.receipt)
    return marks

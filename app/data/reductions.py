"""Say in which state a snapshot is: intact, reduced by named erasures, or altered.

Knows digests and reductions; knows nothing of tables, rows or ledgers. A digest is a sum, so that
what an erasure took is the difference of two of them.
"""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from app.contracts.erasure import Reduction
from app.contracts.rows import Frozen

SnapshotState = Literal["intact", "reduced", "altered"]
MODULUS = 2**128


class SnapshotCheck(Frozen):
    """The state of a snapshot, the receipts that explain it, and the reason in words."""

    state: SnapshotState
    found: str = Field(description="Digest of the rows that the tables give now.")
    receipts: tuple[str, ...] = ()
    reason: str


def check_snapshot(pinned: str, found: str, reductions: Iterable[Reduction]) -> SnapshotCheck:
    """Compare the digest that was pinned with the one that the tables give now.

    `reductions` are those of a model in the order in which they were made; those of other snapshots
    are passed by. While an erasure is under way its snapshots may still be whole. Rows that an
    erasure took and that are back alter a snapshot as much as rows that are gone.

    >>> check_snapshot("aa", "aa", ()).state
    'intact'
    >>> check_snapshot("aa", "bb", ()).state
    'altered'
    """
    expected: str = pinned
    receipts: tuple[str, ...] = ()
    possible = {pinned: receipts}
    for item in reductions:
        if item.snapshot != pinned:
            continue
        if item.before != expected:
            reason = f"erasure {item.receipt} reduced it from {item.before}, expected {expected}"
            return SnapshotCheck(state="altered", found=found, reason=reason)
        expected, receipts = item.after, (*receipts, item.receipt)
        if not item.pending:
            possible.clear()
        possible[expected] = receipts
    if found not in possible:
        after = f" after {', '.join(receipts)}" if receipts else ""
        reason = f"expected the digest {expected}{after}"
        return SnapshotCheck(state="altered", found=found, reason=reason)
    explained = possible[found]
    if not explained:
        reason = "its rows are those that were pinned"
        return SnapshotCheck(state="intact", found=found, reason=reason)
    reason = f"rows were erased by {', '.join(explained)}"
    return SnapshotCheck(state="reduced", found=found, receipts=explained, reason=reason)


def subtract_digests(total: str, part: str) -> str:
    """Give the digest of what is left when rows with the digest `part` are taken away.

    >>> subtract_digests(f"{5:032x}", f"{2:032x}") == f"{3:032x}"
    True
    """
    return f"{(int(total, 16) - int(part, 16)) % MODULUS:032x}"

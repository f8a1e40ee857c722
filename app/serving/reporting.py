"""Tell the ledger what was answered and not kept, so that whoever reads the tables knows of it.

Knows gaps and the ledger; knows nothing of requests, which never wait for it. With the ledger away
the counts stay where they are: in the spool's folder, which outlives the process.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from app.ledger.database import Ledger
from app.ledger.losses import Loss, write_losses
from app.serving.capture import Spool
from app.serving.losses import Gap

EVERY_SECONDS = 2.0


class LossReports:
    """Reports the losses of one living process. One thread ticks it."""

    def __init__(self, ledger: Ledger, model: str, spool: Spool, wall: Callable[[], float]) -> None:
        """Report what a spool has lost; `wall` gives seconds since 1970."""
        self._ledger, self._model, self._spool, self._wall = ledger, model, spool, wall
        self._written: list[Gap] = []
        self._next = 0.0

    def tick(self) -> None:
        """Report what is new, if it is time to. Raises SQLAlchemyError."""
        now = self._wall()
        # A clock that was put back does not make the next report wait for it.
        if self._spool.losses is None or 0 < self._next - now <= EVERY_SECONDS:
            return
        gaps = self._spool.losses.gaps
        new = [gap for gap in gaps if gap not in self._written]
        if new:
            report_losses(self._ledger, self._model, self._spool.id, new)
            self._written = gaps
        self._next = now + EVERY_SECONDS


def report_losses(ledger: Ledger, model: str, replica: str, gaps: Sequence[Gap]) -> None:
    """Report gaps of a process, named as its spool is. Raises SQLAlchemyError."""
    write_losses(ledger, model, [_loss(replica, gap) for gap in gaps])


def _loss(replica: str, gap: Gap) -> Loss:
    first, last = (datetime.fromtimestamp(at, UTC) for at in (gap.first_at, gap.last_at))
    return Loss(replica, gap.table, gap.reason, first, last, gap.num_rows)

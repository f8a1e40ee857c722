"""Ship a replica's spool again and again while it lives, and adopt those of dead ones.

Decides when, and counts; a carrier does it, here or in a process of its own. Knows the spool and
time; knows nothing of tables.
"""

import logging
import math
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple, Protocol

from app.background import Rounds
from app.serving.capture import Spool
from app.serving.shipping import left_behind

logger = logging.getLogger(__name__)
ADOPT_SECONDS = 5.0
MAX_PAUSE_SECONDS = 10.0
STOP_SECONDS = 5.0


class ShippingCounts(NamedTuple):
    """How far the shipping has come, in rows by table."""

    captured: dict[str, int]
    shipped: dict[str, int]
    adopted: dict[str, int]
    problem: str | None


class Carrying(Protocol):
    """Brings rows from spools into the tables, and counts also those that came before a failure."""

    def ship(self, folder: Path, shipped: Counter[str]) -> None:
        """Ship the closed segments of a folder that the caller has locked."""

    def adopt(self, root: Path, adopted: Counter[str]) -> None:
        """Ship what dead processes left below `root`."""

    def close(self) -> None:
        """End whatever was begun for it."""


class Shipper:
    """A thread that ships a living process's spool and adopts those of dead ones."""

    def __init__(self, spool: Spool, carrier: Carrying, every_seconds: float) -> None:
        """Let a carrier bring a spool's rows into the tables so often."""
        self._spool = spool
        self._carrier = carrier
        self._every_seconds = every_seconds
        self._shipped: Counter[str] = Counter()
        self._adopted: Counter[str] = Counter()
        self._problem: str | None = None
        self._one_at_a_time = threading.Lock()
        self._num_rounds = 0
        self._pause = every_seconds
        self._rounds = Rounds("shipper", self._round, every_seconds)

    def start(self) -> None:
        """Begin to ship in the background."""
        self._look_around()
        self._rounds.start()

    def stop(self) -> None:
        """Ship what is left and end; what cannot be shipped now stays for whoever adopts it."""
        self._rounds.stop(STOP_SECONDS)
        if self._rounds.alive:
            # The folder stays locked until the process ends, which shall not wait for it.
            logger.warning("spool %s: shipping hangs; the rest stays on disk", self._spool.id)
            return
        try:
            self.ship()
        except Exception:
            logger.exception("spool %s: the rest stays on disk", self._spool.id)
        # As long as a carrier's process lives the folder is locked, too.
        self._carrier.close()
        self._spool.close()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._rounds.alive

    @property
    def counts(self) -> ShippingCounts:
        """How far it has come."""
        return ShippingCounts(
            self._spool.captured, dict(self._shipped), dict(self._adopted), self._problem
        )

    def ship(self) -> None:
        """Ship everything kept so far in this process's spool."""
        with self._one_at_a_time:
            self._spool.roll()
            try:
                self._carrier.ship(self._spool.folder, self._shipped)
            finally:
                self._spool.recount()

    def _look_around(self) -> None:
        # However long shipping fails, the spool must know how much room it has.
        self._spool.left_bytes = left_behind(self._spool.folder.parent)

    def _round(self) -> float:
        rounds_to_adopt = max(1, math.ceil(ADOPT_SECONDS / self._every_seconds))
        try:
            self._look_around()
            self.ship()
            if self._num_rounds % rounds_to_adopt == 0:
                self._carrier.adopt(self._spool.folder.parent, self._adopted)
            self._num_rounds += 1
            self._pause, self._problem = self._every_seconds, None
        except Exception as error:
            logger.exception("spool %s: shipping failed, will be tried again", self._spool.id)
            self._pause = min(2 * self._pause, MAX_PAUSE_SECONDS)
            self._problem = f"{type(error).__name__}: {error}"
        return self._pause

"""Follow the roles in the ledger, acknowledge each generation, and tell the time.

Knows SQL through the registry and residents; knows nothing of requests. With the ledger away the
last generation stays. The machine's clocks are parameters.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from app.background import Rounds
from app.config import Config
from app.ledger.clock import read_clock
from app.ledger.database import Ledger
from app.ledger.migrations import LedgerMismatch
from app.registry.store import acknowledge, read_roles, retire_replica
from app.serving.predictor import ClockUnknown
from app.serving.residents import Residents

logger = logging.getLogger(__name__)
HEARTBEAT_SECONDS = 2.0
STOP_SECONDS = 2.0


class Follower:
    """Keeps a replica's residents in step with the ledger's roles."""

    def __init__(
        self,
        ledger: Ledger,
        model: str,
        replica: str,
        residents: Residents,
        also: Callable[[], object] = lambda: None,
    ) -> None:
        """Follow for one replica; `also` is called at each tick, before it acknowledges.

        `settled` is set once the replica answers, or it is known that it cannot: no version is the
        champion, or the champion is unfit.
        """
        self._also = also
        self._ledger = ledger
        self._model = model
        self._replica = replica
        self._residents = residents
        self._said: tuple[object, ...] | None = None
        self.settled = threading.Event()
        self._say_again_at = 0.0

    def tick(self, wall: float, steady: float) -> None:
        """Read the roles, follow them, and acknowledge a change or give a heartbeat that is due.

        `wall` is seconds since 1970, `steady` seconds of a clock that never jumps. Raises
        SQLAlchemyError when the ledger is away; the residents then stay as they are.
        """
        self._also()
        roles = read_roles(self._ledger, self._model)
        self._residents.advance(roles, steady)
        current = self._residents.current
        if current is not None or not roles.champion or roles.champion in self._residents.problems:
            self.settled.set()
        generation = current.roles.generation if current else 0
        resident = sorted(current.bundles) if current else []
        problems = self._residents.problems
        said = (generation, resident, problems)
        if said == self._said and steady < self._say_again_at:
            return
        acknowledge(self._ledger, self._model, self._replica, generation, resident, wall, problems)
        self._said, self._say_again_at = said, steady + HEARTBEAT_SECONDS

    def retire(self) -> None:
        """Say that this replica ends, so that nobody waits for it."""
        retire_replica(self._ledger, self._model, self._replica)


class FollowerThread:
    """Ticks a follower until it is stopped; an error ends a tick, never the thread."""

    def __init__(
        self,
        follower: Follower,
        every_seconds: float,
        wall: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self._follower = follower
        self._every_seconds = every_seconds
        self._wall = wall
        self._steady = steady
        self._healthy = True
        self._followed_at = steady()
        self._reached = threading.Event()
        self._mismatch: LedgerMismatch | None = None
        self._rounds = Rounds("follower", self._round, 0.0)

    def start(self, settle_seconds: float) -> None:
        """Follow in the background; return when it is settled who answers, or after so long.

        A replica that takes requests before its champion is there would refuse them, next to others
        that answer, or in place of one that would be stopped for it. So while the ledger is away it
        waits, however long, and says so. Raises LedgerMismatch for a ledger of another version.
        """
        self._rounds.start()
        while not self._reached.wait(settle_seconds):
            logger.warning(
                "the ledger is away for %.0f s, so that nobody knows who is champion; this replica "
                "takes no requests before that is known",
                self.age_seconds,
            )
        if self._mismatch is not None:
            raise self._mismatch
        if not self._follower.settled.wait(settle_seconds):
            logger.warning("no champion is resident after %g s; going on", settle_seconds)

    def stop(self) -> None:
        """End the thread and take the replica off the list, if the ledger can be asked to."""
        self._rounds.stop(STOP_SECONDS)
        if self._rounds.alive:
            logger.warning("the ledger does not answer; the replica leaves the list by silence")
            return
        try:
            self._follower.retire()
        except (SQLAlchemyError, LedgerMismatch):
            logger.exception("the replica could not be taken off the list; it leaves it by silence")

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._rounds.alive

    @property
    def age_seconds(self) -> float:
        """How long ago the roles were read; since the beginning, if they never were."""
        return max(0.0, self._steady() - self._followed_at)

    def _round(self) -> float:
        try:
            self._follower.tick(self._wall(), self._steady())
            self._healthy, self._followed_at = True, self._steady()
            self._reached.set()
        except Exception as error:
            # Once an outage, not five times a second.
            if self._healthy:
                logger.exception("the ledger cannot be followed; the last generation stays")
            self._healthy = False
            if isinstance(error, LedgerMismatch):
                self._mismatch = error
                self._reached.set()
        return self._every_seconds


class LedgerClock:
    """Tells the time of the configuration: the machine's, or the ledger's when it is driven."""

    def __init__(self, ledger: Ledger, config: Config, wall: Callable[[], float]) -> None:
        self._ledger = ledger
        self._config = config
        self._wall = wall

    def __call__(self) -> datetime:
        """Return now, in UTC. Raises ClockUnknown when a driven clock cannot be read."""
        wall = datetime.fromtimestamp(self._wall(), UTC)
        try:
            return read_clock(self._ledger, self._config, wall).now
        except SQLAlchemyError as error:
            raise ClockUnknown("the driven clock cannot be read from the ledger") from error

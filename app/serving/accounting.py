"""Tell the other replicas what was counted here, and count with what they have counted.

Knows budgets and the ledger; knows nothing of requests, which never wait for it. With the ledger
away each replica goes on with the share that it had: answers go on, and the limit holds as well as
it did, until the day ends; then with its share of the new day.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from app.config import Config
from app.ledger.database import Ledger
from app.ledger.usage import read_usage, write_usage
from app.registry.replicas import live_replicas
from app.security.access import Principal
from app.security.budgets import MAX_ACCOUNTS, Budgets
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key

logger = logging.getLogger(__name__)
EVERY_SECONDS = 2.0


class Accounting:
    """Keeps one replica's budgets in step with the others'. One thread calls it."""

    def __init__(
        self,
        ledger: Ledger,
        model: str,
        replica: str,
        budgets: Budgets,
        wall: Callable[[], float],
    ) -> None:
        """Keep in step for one replica; `wall` gives seconds since 1970."""
        self._ledger = ledger
        self._model = model
        self._replica = replica
        self._budgets = budgets
        self._wall = wall
        self._written: dict[str, int] = {}
        self._next = 0.0
        self._healthy = True

    def tick(self) -> None:
        """Exchange counts if it is time to; a ledger that is away is told once, in the log."""
        now = self._wall()
        # A clock that was put back does not make the next exchange wait for it.
        if 0 < self._next - now <= EVERY_SECONDS:
            return
        self._next = now + EVERY_SECONDS
        try:
            self.exchange(now)
            self._healthy = True
        except SQLAlchemyError:
            if self._healthy:
                logger.exception("budgets cannot be shared; each replica goes on with its share")
            self._healthy = False

    def exchange(self, now: float) -> None:
        """Write what was counted here, read what the others have. Raises SQLAlchemyError."""
        day = datetime.fromtimestamp(now, UTC).date()
        used = self._budgets.used(now)
        if used != self._written:
            write_usage(self._ledger, self._model, self._replica, day, used)
            self._written = used
        others = read_usage(self._ledger, self._model, day, self._replica, MAX_ACCOUNTS)
        living = {each.replica for each in live_replicas(self._ledger, self._model, now)}
        self._budgets.follow(len(living | {self._replica}), used, others, now)


def open_budgets(config: Config) -> Budgets:
    """Open the budgets of an endpoint, its callers named as the ledger may name them.

    A key goes by its name, and the subject of a token, who may be a person, by a pseudonym: another
    one than that under which the same person may stand in a table.
    """
    pseudonymiser = Pseudonymiser(pseudonym_key(config))

    def name(who: Principal) -> str:
        return f"token:{pseudonymiser.one(who.account)}" if who.kind == "token" else who.account

    return Budgets(config.serving.limits, name)

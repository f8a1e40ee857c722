"""Keep a replica's tombstones in step with the ledger's.

Knows the ledger; knows nothing of rows or requests. With the ledger away the last tombstones stay.
"""

from app.ledger.database import Ledger
from app.ledger.erasures import read_tombstones, tombstone_level
from app.security.tombstones import Tombstones


class TombstoneWatch:
    """The tombstones of one model, as last read. Safe to call from several threads."""

    def __init__(self, ledger: Ledger, model: str, empty: Tombstones) -> None:
        """Start without any; `refresh` reads those that stand."""
        self._ledger = ledger
        self._model = model
        self._current = empty
        self._level = 0

    def __call__(self) -> Tombstones:
        """Give what was last read."""
        return self._current

    def refresh(self) -> Tombstones:
        """Read the tombstones if there are new ones.

        Raises SQLAlchemyError when the ledger is away; the last ones then stay.
        """
        level = tombstone_level(self._ledger, self._model)
        if level != self._level:
            self._current = read_tombstones(self._ledger, self._model, self._current)
            self._level = level
        return self._current

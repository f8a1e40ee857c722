"""Know what is in the unique columns of a model's rows: read once, and kept from ingest to ingest.

Knows the events table and what one watch leaves for its next ingest; knows nothing of Ray, sources
or deliveries.
"""

from collections.abc import Mapping

from app.contracts.rows import Contract
from app.data.judging import read_seen
from app.data.seen import SeenIds
from app.data.settling import Ids
from app.data.tables import Tables
from app.data.watching import Watch
from app.security.tombstones import Tombstones


class UniqueValues:
    """The values that rows of one ingest must not repeat, by column."""

    def __init__(
        self, tables: Tables, contract: Contract, watch: Watch, erased: Tombstones
    ) -> None:
        """Read nothing before it is asked for."""
        self._tables, self._contract = tables, contract
        self._watch, self._erased = watch, erased
        self._seen: dict[str, Ids] | None = None
        self._read_at = -1
        # The version that all of them are in; None once others added rows meanwhile.
        self._version: int | None = None

    @property
    def seen(self) -> dict[str, Ids]:
        """What is in: read again only when others than this watch added some."""
        if self._seen is None:
            self._version = self._read_at = self._tables.version("events")
            if self._saw_all():
                self._seen = {name: Ids(before) for name, before in self._watch.seen.items()}
            else:
                self._seen = read_seen(self._tables, self._contract)
        return self._seen

    @property
    def reached(self) -> int:
        """A version of the events of which every row is known here."""
        return self._read_at if self._version is None else self._version

    def add(self, added: Mapping[str, SeenIds]) -> None:
        """Add what a delivery brings in."""
        for name, ids in added.items():
            self.seen[name].added.merge(ids)

    def note(self, version: int | None) -> None:
        """Note the version of the events that a delivery became; None when it was in already."""
        if self._version is not None:
            others = version is None or self._tables.grew_since("events", self._version, version)
            self._version = None if others else version

    def leave(self) -> None:
        """Leave what was seen to the next ingest of a watch that follows."""
        if self._seen is None or not self._watch.looks.following:
            return
        for ids in self._seen.values():
            ids.before.merge(ids.added)
        self._watch.seen = {name: ids.before for name, ids in self._seen.items()}
        known = self._version is not None
        self._watch.seen_at = (self._version or 0, self._erased.hashes) if known else None

    def _saw_all(self) -> bool:
        """Tell whether the last ingest of this watch saw all that is in."""
        if self._watch.seen_at is None:
            return False
        version, erased = self._watch.seen_at
        return erased == self._erased.hashes and not self._tables.grew_since("events", version)

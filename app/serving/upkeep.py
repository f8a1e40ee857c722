"""Keep a model's online store up with its tables: every row and outcome once, whoever brought it.

The tables are the one bus: what replicas ship, what a dead one left, what an ingest brings in comes
this way. Offsets are committed with what was read up to them, so a crash loses and doubles nothing.
One process writes at a time, the others read what it wrote. Knows tables, the store and a clock;
knows nothing of HTTP or Ray.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from app.background import Rounds
from app.config import Config
from app.contracts.rows import TIMESTAMP, Contract
from app.contracts.times import MICROS_PER_DAY, micros_of, moment
from app.data.definitions import store_path
from app.data.facts import event_facts, label_facts
from app.data.locks import locked
from app.data.online import OnlineStore
from app.data.tables import TableName, Tables, VersionGone
from app.data.windows import longest
from app.security.keyring import open_keyring

logger = logging.getLogger(__name__)
FOLLOWED: tuple[TableName, ...] = ("events", "labels")
FOLDER = "online"
FILL_ROWS = 50_000
MAX_PAUSE_SECONDS = 10.0


def open_online(config: Config) -> OnlineStore | None:
    """Open the online store of a model; None when it declares no windows."""
    if not config.contract.windows:
        return None
    reach = round(config.serving.window_reach_days * MICROS_PER_DAY)
    keyring = open_keyring(config) if config.encryption.at_rest else None
    return OnlineStore(config.workspace / FOLDER, config.contract, reach, keyring)


def upkeep_lock(path: Path, *, wait: bool) -> AbstractContextManager[int]:
    """Be the one who reads the tables for an online store, or who erases in it."""
    return locked(path.with_suffix(".lock"), wait=wait)


def online_path(config: Config) -> Path:
    """Name the file of a model's online store, whether or not it is there."""
    sealed = config.encryption.at_rest
    return store_path(config.workspace / FOLDER, config.contract, sealed=sealed)


class Upkeep:
    """A thread that brings what is new in the tables into the online store."""

    def __init__(
        self,
        store: OnlineStore,
        tables: Tables,
        clock: Callable[[], datetime],
        every_seconds: float,
    ) -> None:
        """Follow the tables of the store's contract; nothing runs before `start`."""
        self._store, self._tables, self._clock = store, tables, clock
        self._every_seconds = self._pause = every_seconds
        self.num_late = 0
        self.problem: str | None = None
        self._rounds = Rounds("upkeep", self._round, 0.0)

    def start(self) -> None:
        """Begin to follow in the background."""
        self._rounds.start()

    def stop(self) -> None:
        """End the thread and close the store."""
        self._rounds.stop()
        self._store.close()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._rounds.alive

    def tick(self) -> bool:
        """Bring in all that is new; False when another process is doing it."""
        try:
            with upkeep_lock(self._store.file.path, wait=False):
                self._remove_other_definitions()
                if self._store.offset(FOLLOWED[-1]) is None:
                    self._fill()
                self._keep_up()
        except BlockingIOError:
            return False
        return True

    def _keep_up(self) -> None:
        try:
            self._follow()
        except VersionGone:
            # What was appended since is merged into files that were there before.
            logger.warning("files that the online store has not read are gone: filling it again")
            self._fill()

    def _follow(self) -> None:
        rows, offsets = {}, {}
        for name in FOLLOWED:
            after = self._store.offset(name)
            assert after is not None, "a filled store has offsets"
            rows[name], offsets[name] = self._tables.read_since(name, after)
            if offsets[name] == after:
                del offsets[name]
        if offsets:
            late = self._bring(rows["events"], rows["labels"], offsets)
            self.num_late += late
            if late:
                logger.warning("%d facts came after they counted: raise settle_seconds", late)

    def _fill(self) -> None:
        """Read what any value can still count, in pieces; the offsets come with the last one."""
        versions = {name: self._tables.version(name) for name in FOLLOWED}
        now, reach = micros_of(self._clock()), 2 * longest(self._contract.windows)
        oldest = pa.scalar(moment(max(now - self._store.reach - reach - 1, 0)), TIMESTAMP)
        events = self._read("events", versions, pc.field("prediction_time") >= oldest)
        recent = (pc.field("known_at") >= oldest) | (pc.field("received_at") >= oldest)
        labels = self._read("labels", versions, recent)
        logger.info("filling the online store: %d rows, %d outcomes", len(events), len(labels))
        for first in range(0, len(events), FILL_ROWS):
            self._bring(events.slice(first, FILL_ROWS), labels.slice(0, 0), {})
        for first in range(0, len(labels), FILL_ROWS):
            self._bring(events.slice(0, 0), labels.slice(first, FILL_ROWS), {})
        self._bring(events.slice(0, 0), labels.slice(0, 0), versions)

    def _bring(self, events: pa.Table, labels: pa.Table, offsets: dict[TableName, int]) -> int:
        facts = event_facts(events, self._contract)
        revisions = label_facts(labels, self._contract.arrivals)
        now = micros_of(self._clock())
        noted = {str(name): offset for name, offset in offsets.items()}
        return self._store.update(facts, revisions, now, noted).num_late

    def _read(self, name: TableName, versions: dict[TableName, int], filters: object) -> pa.Table:
        if versions[name] < 0:
            return self._tables.schema(name).empty_table()
        return self._tables.read(name, versions[name], filters=filters)

    @property
    def _contract(self) -> Contract:
        return self._store.contract

    def _remove_other_definitions(self) -> None:
        """Delete the files of former declarations: nobody would erase in them."""
        own = self._store.file.path
        for path in own.parent.iterdir():
            if not path.name.startswith(own.stem):
                path.unlink(missing_ok=True)

    def _round(self) -> float:
        try:
            self.tick()
            self._pause, self.problem = self._every_seconds, None
        except Exception as error:
            logger.exception("the online store cannot be kept up, will be tried again")
            self._pause = min(2 * self._pause, MAX_PAUSE_SECONDS)
            self.problem = f"{type(error).__name__}: {error}"
        return self._pause

"""One SQLite file that many processes read while one writes, and from which bytes can be erased.

Knows SQLite: transactions, named numbers, scrubbing; knows nothing of what the tables hold. A
commit survives the process; after a loss of power the file is at an earlier commit, never between.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

BUSY_SECONDS = 30.0
NUMBERS = "CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, n INTEGER)"
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    # What is deleted is overwritten, and nothing spills to files elsewhere.
    "secure_delete = ON",
    "temp_store = MEMORY",
)


class StoreBusy(RuntimeError):
    """Others kept the file in use, so that bytes of what was forgotten may remain: try again."""


class StoreFile:
    """A database of numbers and texts. Safe to use from several threads and processes."""

    def __init__(
        self, path: Path, statements: Iterable[str], busy_seconds: float = BUSY_SECONDS
    ) -> None:
        """Open the file, or create it with some statements, which must bear repetition."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # SQLite gives the files beside it the same mode.
        self.path = path
        self._writer, self._reader = _connect(path, busy_seconds), _connect(path, busy_seconds)
        self._writing, self._reading = threading.Lock(), threading.Lock()
        with self.transaction() as database:
            database.execute(NUMBERS)
            for statement in statements:
                database.execute(statement)

    def close(self) -> None:
        """Close the file; what was committed is there for the next one."""
        self._writer.close()
        self._reader.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write, all or nothing; waits for another writer."""
        with self._writing:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read one commit, whatever is written meanwhile."""
        with self._reading:
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("COMMIT")

    def scrub(self) -> None:
        """Leave no byte of what was deleted in the file or beside it. Raises StoreBusy."""
        busy = f"{self.path}: others kept it in use; forget again later"
        with self._writing:
            try:
                self._writer.execute("VACUUM")
                is_busy, *_ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError as error:
                raise StoreBusy(f"{busy} ({error})") from error
        if is_busy:
            raise StoreBusy(busy)


def read_number(database: sqlite3.Connection, name: str) -> int | None:
    """Read a number by its name; None when it was never set."""
    found = database.execute("SELECT n FROM numbers WHERE name = ?", (name,)).fetchone()
    return None if found is None else int(found[0])


def write_number(database: sqlite3.Connection, name: str, number: int) -> None:
    """Set a number by its name."""
    database.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?)", (name, number))


def _connect(path: Path, busy_seconds: float) -> sqlite3.Connection:
    database = sqlite3.connect(
        path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
    )
    for pragma in PRAGMAS:
        database.execute(f"PRAGMA {pragma}")
    return database

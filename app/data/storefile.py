"""One SQLite file that many processes read while one writes, and from which bytes can be erased.

Knows SQLite: transactions, named numbers, scrubbing; knows nothing of what the tables hold. A
commit survives the process; after a loss of power the file is at an earlier commit, never between.
With a ring of keys the file is sealed whole; a key that somebody changes is found anew.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from sqlcipher3 import dbapi2 as sqlcipher

from app.data.sealedstore import Connection, connect_sealed
from app.security.keyring import Keyring
from app.security.secrets import SecretError

BUSY_SECONDS = 30.0
NUMBERS = "CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, n INTEGER)"
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    # What is deleted is overwritten, and nothing spills to files elsewhere.
    "secure_delete = ON",
    "temp_store = MEMORY",
)


# What keeps a file from answering, sealed or not; the two libraries have errors of their own.
STORE_ERRORS = (sqlite3.Error, sqlcipher.Error, SecretError)
BUSY_ERRORS = (sqlite3.OperationalError, sqlcipher.OperationalError)


class StoreBusy(RuntimeError):
    """Others kept the file in use, so that bytes of what was forgotten may remain: try again."""


class StoreFile:
    """A database of numbers and texts. Safe to use from several threads and processes."""

    def __init__(
        self,
        path: Path,
        statements: Iterable[str],
        busy_seconds: float = BUSY_SECONDS,
        keyring: Keyring | None = None,
    ) -> None:
        """Open the file, or create it with some statements, which must bear repetition.

        With a ring of keys it is sealed; one that none of them opens is begun anew.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # SQLite gives the files beside it the same mode.
        self.path = path
        self._statements = (NUMBERS, *statements)
        self._is_sealed = keyring is not None
        if keyring is None:
            self._connect = partial(_connect, path, busy_seconds)
        else:
            self._connect = partial(connect_sealed, path, keyring, busy_seconds, PRAGMAS)
        self._writer, self._reader = self._connect(), self._connect()
        self._writing, self._reading = threading.Lock(), threading.Lock()
        with self.transaction() as database:
            self._create(database)

    def close(self) -> None:
        """Close the file; what was committed is there for the next one."""
        self._writer.close()
        self._reader.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Write, all or nothing; waits for another writer."""
        with self._writing:
            self._writer = self._begun(self._writer, "BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read one commit, whatever is written meanwhile."""
        with self._reading:
            self._reader = self._begun(self._reader, "BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("COMMIT")

    def _begun(self, database: Connection, statement: str) -> Connection:
        """Begin a transaction; a file whose key was changed, or that was begun anew, is reopened.

        From here on it is one commit that is read, so that no change can come in between.
        """
        try:
            database.execute(statement)
            if self._is_sealed:
                # The first look at the file takes the commit, and tells whether the key fits it.
                database.execute("PRAGMA schema_version").fetchone()
        except BUSY_ERRORS:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        except sqlcipher.DatabaseError:
            database.close()
            database = self._connect()
            self._create(database)
            database.execute(statement)
        return database

    def _create(self, database: Connection) -> None:
        for statement in self._statements:
            database.execute(statement)

    def scrub(self) -> None:
        """Leave no byte of what was deleted in the file or beside it. Raises StoreBusy."""
        busy = f"{self.path}: others kept it in use; forget again later"
        with self._writing:
            try:
                self._writer.execute("VACUUM")
                is_busy, *_ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except BUSY_ERRORS as error:
                raise StoreBusy(f"{busy} ({error})") from error
        if is_busy:
            raise StoreBusy(busy)


def read_number(database: Connection, name: str) -> int | None:
    """Read a number by its name; None when it was never set."""
    found = database.execute("SELECT n FROM numbers WHERE name = ?", (name,)).fetchone()
    return None if found is None else int(found[0])


def write_number(database: Connection, name: str, number: int) -> None:
    """Set a number by its name."""
    database.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?)", (name, number))


def _connect(path: Path, busy_seconds: float) -> Connection:
    database = sqlite3.connect(
        path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
    )
    for pragma in PRAGMAS:
        database.execute(f"PRAGMA {pragma}")
    return database

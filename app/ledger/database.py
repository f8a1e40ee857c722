"""Open the ledger and hand out transactions.

Knows SQL connections, locks and how times are written; knows nothing of what the tables mean.
SQLite and PostgreSQL differ only in this file.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Text, create_engine, event, make_url
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from app.ledger.migrations import migrate

_BUSY_SECONDS = 30
# Any number, the same in every process: it names the one lock that writers of the ledger share.
_WRITER_LOCK = 7_246_101
_PURGE_SECONDS = 30.0


class LedgerBusy(RuntimeError):
    """The ledger cannot be purged while others use it."""


class UtcTime(TypeDecorator[datetime]):
    """A time as fixed-width ISO 8601 text in UTC: text order is time order on every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Write a timezone-aware time; a naive one is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the ledger takes timezone-aware times only, got {value.isoformat()}")
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Read the text back as a time in UTC."""
        return None if value is None else datetime.fromisoformat(value)


class Ledger:
    """A pool of connections to one ledger. Safe to share between threads; open one per process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._migrating = threading.Lock()
        self._is_migrated = False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield the only writing transaction there is: commits at the end, rolls back on an error.

        Writers queue up (SQLite: BEGIN IMMEDIATE; PostgreSQL: an advisory lock), so what is read
        inside stays true until the commit.
        """
        self.prepare()
        with self._writing() as connection:
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a transaction for reading: one consistent view, blocking nobody."""
        self.prepare()
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def prepare(self) -> None:
        """Migrate the schema, once; every transaction begins with it.

        Raises LedgerMismatch for one of another version, SQLAlchemyError for a ledger that is away.
        """
        if self._is_migrated:
            return
        with self._migrating:
            if not self._is_migrated:
                with self._writing() as connection:
                    migrate(connection)
                self._is_migrated = True

    def purge(self) -> None:
        """Overwrite what was deleted: afterwards no file of the ledger holds its bytes.

        A database keeps deleted bytes in free pages and in its log. Waits for the transactions
        under way. Raises LedgerBusy when readers keep the log from being emptied.
        """
        if self._engine.dialect.name != "sqlite":
            with self._engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.exec_driver_sql("VACUUM FULL")
            return
        with contextlib.closing(self._engine.raw_connection()) as raw:
            if not _purge_sqlite(raw.cursor()):
                raise LedgerBusy(
                    "ledger: it cannot be purged while somebody reads or writes; try again later"
                )

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            connection = connection.execution_options(mainspring_writes=True)
            with connection.begin():
                yield connection


def open_ledger(url: str, *, later: bool = False) -> Ledger:
    """Open the ledger at a SQLAlchemy URL, creating the file and migrating its schema.

    `later` does so with the first transaction: for who must begin while the ledger is away.
    """
    target = make_url(url)
    if target.get_backend_name() == "sqlite":
        engine = _open_sqlite(url, target.database)
    else:
        engine = create_engine(url, pool_pre_ping=True)
        event.listen(engine, "begin", _begin_elsewhere)
    ledger = Ledger(engine)
    if not later:
        ledger.prepare()
    return ledger


def _open_sqlite(url: str, database: str | None) -> Engine:
    if database and database != ":memory:":
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: object) -> None:
    # The driver's own transactions would begin late and weakly; the begin event does it.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _purge_sqlite(cursor: Any) -> bool:
    """Write the file anew without deleted bytes and empty the log; False when others are there."""
    cursor.execute(f"PRAGMA busy_timeout = {int(_PURGE_SECONDS * 1000)}")
    try:
        cursor.execute("VACUUM")
        busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:
        return False
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    return not busy


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("mainspring_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_elsewhere(connection: Connection) -> None:
    if connection.get_execution_options().get("mainspring_writes", False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")

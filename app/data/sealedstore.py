"""Open an SQLite file that is sealed whole, and change its key: SQLCipher, each page on its own.

A page is encrypted and authenticated (AES-256, HMAC-SHA512) with a random data key. What such a
file holds can be made again: one that no key opens is begun anew, empty. Knows SQLCipher, keys and
locks; knows nothing of what the tables hold.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

from sqlcipher3 import dbapi2 as sqlcipher

from app.data.locks import locked
from app.data.storekeys import StoreKeys
from app.security.keyring import Keyring
from app.security.secrets import SecretError

logger = logging.getLogger(__name__)
PLAIN = b"SQLite format 3\0"
LOOK_SECONDS = 30.0
BESIDE = ("", "-wal", "-shm")
# It is the same DB-API: types and methods are those of the standard library's.
Connection = sqlite3.Connection


def opening(path: Path) -> AbstractContextManager[int]:
    """Be the one who opens a store, or changes its key; nobody holds this for long."""
    return locked(path.with_suffix(".opening"))


def connect_sealed(
    path: Path, keyring: Keyring, busy_seconds: float, pragmas: Sequence[str]
) -> Connection:
    """Open a sealed file, or begin a new one where none of its keys opens it.

    Raises SecretError when the ring cannot give a key for a new one.
    """
    with opening(path):
        keys = StoreKeys(path, keyring)
        with contextlib.suppress(NotItsKey):
            return _connect_known(path, keys, busy_seconds, pragmas)
        key = keys.add(keep=False)
        if _discard(path):
            logger.warning("%s: no key opens it: it is begun anew, and filled again", path)
        path.touch(mode=0o600)
        return _connect(path, key, busy_seconds, pragmas)


class NotItsKey(ValueError):
    """A file is not sealed with a key, or is no store at all."""


def change_key(path: Path, keyring: Keyring, busy_seconds: float) -> bool:
    """Seal a store with a new data key under the newest master key; False where it is already.

    Others read on meanwhile. Cut off at any point it may be called again. Raises sqlcipher's
    OperationalError while others write, and NotItsKey for a file that no key opens: it is left to
    who opens it next.
    """
    with opening(path):
        keys = StoreKeys(path, keyring)
        if masters_of(path, keyring) == (keyring.current(),):
            return False
        with contextlib.closing(_connect_known(path, keys, busy_seconds)) as database:
            # Of a file that is written to, the change itself would say no more than that it failed.
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
            key = keys.add(keep=True)
            database.execute(f'PRAGMA rekey = "{_raw(key)}"')
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            keys.drop_older()
    return True


def masters_of(path: Path, keyring: Keyring) -> tuple[str, ...]:
    """Give the ids of the master keys that a store needs; its caller holds `opening`."""
    try:
        return StoreKeys(path, keyring).masters()
    except SecretError:
        return ()


def is_sealed(path: Path) -> bool:
    """Tell whether a file is no plain SQLite file, by its first bytes; an empty one is plain."""
    with path.open("rb") as opened:
        return opened.read(len(PLAIN)) not in (PLAIN, b"")


def texts_in(path: Path, keyring: Keyring) -> Iterator[str]:
    """Give every text of every table of a sealed store. Raises NotItsKey."""
    with contextlib.ExitStack() as held:
        with opening(path):
            database = _connect_known(path, StoreKeys(path, keyring), LOOK_SECONDS)
            held.enter_context(contextlib.closing(database))
        found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in found:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                yield from (cell for cell in row if isinstance(cell, str))


def _connect_known(
    path: Path, keys: StoreKeys, busy_seconds: float, pragmas: Sequence[str] = ()
) -> Connection:
    for key in _known(keys):
        with contextlib.suppress(NotItsKey):
            return _connect(path, key, busy_seconds, pragmas)
    raise NotItsKey(f"{path}: no key opens it")


def _known(keys: StoreKeys) -> list[bytes]:
    try:
        return keys.read()
    except SecretError as error:
        logger.warning("%s", error)
        return []


def _connect(path: Path, key: bytes, busy_seconds: float, pragmas: Sequence[str]) -> Connection:
    """Connect with a key. Raises NotItsKey where it does not fit."""
    database = sqlcipher.connect(
        path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
    )
    try:
        # Its own log goes to the standard error, past ours.
        database.execute("PRAGMA cipher_log_level = NONE")
        database.execute(f'PRAGMA key = "{_raw(key)}"')
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        for pragma in pragmas:
            database.execute(f"PRAGMA {pragma}")
    except sqlcipher.OperationalError:
        database.close()
        raise
    except sqlcipher.DatabaseError as error:
        database.close()
        raise NotItsKey(f"{path}: {error}") from error
    return cast(Connection, database)


def _raw(key: bytes) -> str:
    """Write a key so that it is taken as it is, and not as a phrase to derive one from."""
    return f"x'{key.hex()}'"


def _discard(path: Path) -> bool:
    """Delete a store's files; tells whether it held anything."""
    held = path.exists() and path.stat().st_size > 0
    for ending in BESIDE:
        path.with_name(path.name + ending).unlink(missing_ok=True)
    return held

"""Let many use the files of a table, or one change what other versions of it name.

Knows lock files of one machine; knows nothing of tables. A lock lives as long as the process that
holds it, so a killed process leaves none behind.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path


@contextlib.contextmanager
def shared(table: Path) -> Iterator[None]:
    """Use a table's files together with others who do; wait for whoever has it alone.

    Not to be nested by one thread: between the two somebody may begin to wait for it alone.
    """
    with contextlib.ExitStack() as held:
        with _locked(table, "turn", fcntl.LOCK_SH):
            held.enter_context(_locked(table, "use", fcntl.LOCK_SH))
        yield


@contextlib.contextmanager
def exclusive(table: Path) -> Iterator[None]:
    """Have a table's files alone, once those who use them now are done."""
    # Whoever comes later queues at the turn, so that a stream of users cannot keep this one out.
    with _locked(table, "turn", fcntl.LOCK_EX), _locked(table, "use", fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def committing(table: Path) -> Iterator[None]:
    """Be the one of the users of a table who commits to it, and writes its checkpoint."""
    with _locked(table, "commit", fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[int]:
    """Hold an exclusive lock on a file; the kernel frees it when the process ends.

    Gives the file's descriptor: a child that inherits it holds the lock too, until it ends itself.
    With `wait` false, raises BlockingIOError when someone else holds it.
    """
    with _holding(path, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB) as descriptor:
        yield descriptor


def _locked(table: Path, part: str, mode: int) -> AbstractContextManager[int]:
    # Beside the table, not in it: what lies in its folder is named by a version or removed.
    return _holding(table.with_name(f".{table.name}.{part}.lock"), mode)


@contextlib.contextmanager
def _holding(path: Path, mode: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, mode)
        yield descriptor
    finally:
        os.close(descriptor)

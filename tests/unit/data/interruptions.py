"""End work on files at a chosen point: before the n-th file is opened to write, renamed or deleted.

Python tells its audit hooks of each, so that the code under test needs no hook of its own.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate"}


class Killed(BaseException):
    """What stands for the end of a process."""


class _Watch:
    """The one hook of this process: a hook cannot be taken off again."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.left = 0
        self.hard = False
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.folder is None or not self._changes(event, arguments):
            return
        self.left -= 1
        if self.left < 0:
            self.folder = None
            if self.hard:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Killed(event)

    def _changes(self, event: str, arguments: tuple[object, ...]) -> bool:
        path = arguments[0] if arguments else None
        if not isinstance(path, str | os.PathLike) or not str(path).startswith(str(self.folder)):
            return False
        if event == "open":
            flags = arguments[2]
            return isinstance(flags, int) and bool(flags & WRITING)
        return event in CHANGES


_watch: _Watch | None = None


@contextmanager
def killed_after(num_changes: int, folder: Path, *, hard: bool = False) -> Iterator[None]:
    """End what runs inside before its change number `num_changes` (from 0) below a folder.

    Hard is SIGKILL of this process; else Killed is raised inside and goes no further.
    """
    global _watch
    _watch = _watch or _Watch()
    _watch.folder, _watch.left, _watch.hard = folder, num_changes, hard
    try:
        yield
    finally:
        _watch.folder = None

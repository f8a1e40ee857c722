"""Look at the files of a source again and again: take what is whole, leave what is not, know both.

Knows sizes, times and what earlier looks found; knows nothing of formats, Ray or tables. The time
is a parameter.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from app.data.deliveries import Delivery
from app.data.pieces import Piece, SourceError
from app.data.storage import Found, digest_file
from app.data.stores import URI, shown

NANOS = 1_000_000_000
STORE_TRIES = 5


class Refusal(NamedTuple):
    """A file that cannot be read, and why."""

    name: str
    problem: str


Divide = Callable[[str, str], list[Piece]]


@dataclass
class Looks:
    """What earlier looks found. A single ingest takes a new one, a follower keeps one for good.

    When following, a file is taken once it has not changed for `settle_seconds`, by its time or
    from one look to the next; one that cannot be read is noted and left until it changes. That of a
    store is tried at some more looks first: what failed may have been the store.
    Otherwise every file is taken as it is, and the first that cannot be read is an error.
    """

    following: bool = False
    settle_seconds: float = 0.0
    now: float = 0.0
    waiting: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    _seen: dict[str, tuple[Found, float]] = field(default_factory=dict)
    _opened: dict[str, tuple[Found, Delivery | None]] = field(default_factory=dict)
    _failed: dict[str, tuple[Found, int]] = field(default_factory=dict)

    def begin(self, now: float) -> None:
        """Begin another look, at a time in seconds since 1970."""
        self.now = now
        self.waiting, self.refused = [], []

    def open(self, file: Found, divide: Divide) -> Delivery | None:
        """Open a file as a delivery, None when it is left for later or for good.

        `divide` takes a path and the digest of its bytes. A file that looks as before is not read
        again. Raises SourceError for a file that cannot be read, unless following.
        """
        known = self._opened.get(file.path)
        if known is not None and known[0] == file:
            return known[1]
        if self.following and not self._settled(file):
            self.waiting.append(shown(file.path))
            return None
        try:
            delivery = _open(file, divide)
        except SourceError as error:
            if not self.following:
                raise
            self.refuse(shown(file.path), str(error))
            self._leave(file)
            return None
        self._opened[file.path] = file, delivery
        return delivery

    def refuse(self, name: str, problem: str) -> None:
        """Note what cannot be read."""
        self.refused.append(Refusal(name, problem))

    def set_aside(self, delivery: Delivery, problem: str) -> None:
        """Note a delivery that could not be read whole; its file is left until it changes."""
        self.refuse(delivery.name, problem)
        if delivery.file is not None:
            self._leave(delivery.file)

    def _leave(self, file: Found) -> None:
        """Leave a file until it changes, or until the next look."""
        known, times = self._failed.get(file.path, (file, 0))
        times = times + 1 if known == file else 1
        self._failed[file.path] = file, times
        self._opened.pop(file.path, None)
        if times >= (STORE_TRIES if URI.match(file.path) else 1):
            self._opened[file.path] = file, None

    def _settled(self, file: Found) -> bool:
        if self.now - file.modified / NANOS >= self.settle_seconds:
            return True
        # Clocks of stores differ: what stayed the same from look to look is settled too.
        seen, since = self._seen.setdefault(file.path, (file, self.now))
        if seen != file:
            self._seen[file.path] = file, self.now
            return False
        return self.now - since >= self.settle_seconds and since < self.now


def _open(file: Found, divide: Divide) -> Delivery:
    if file.size == 0:
        raise SourceError(f"{shown(file.path)}: the file is empty; deliver it again")
    digest = digest_file(file.path)
    pieces = divide(file.path, digest)
    return Delivery(digest, shown(file.path), file.size, tuple(pieces), file=file)

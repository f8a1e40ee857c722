"""A delivery: what is brought in as one, once, and the marks by which tables remember it.

Marks are application transactions of the tables: they are committed with the rows, so that no crash
can part them, and a table that is restored from a copy brings its own positions. Knows names and
numbers; knows nothing of formats, Ray or rows.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.data.pieces import Piece, SourceError
from app.data.sql_pieces import SqlPiece
from app.data.storage import DIGEST_CHARACTERS, Found, look_at
from app.data.stores import shown

Mark = tuple[str, int]


@dataclass(frozen=True)
class Delivery:
    """A file, a part of a table that grows, or a package.

    `digest` names its content and `name` its place. `marks` are committed with its rows;
    `file` is how it was listed before it was read.
    """

    digest: str
    name: str
    size: int = 0
    pieces: tuple[Piece | SqlPiece, ...] = ()
    marks: tuple[Mark, ...] = ()
    file: Found | None = None

    @property
    def place(self) -> str:
        """Name the place of a file in marks."""
        return f"file:{key_of(self.name)}"

    def refuse_changed(self) -> None:
        """Raise SourceError when the file is no longer the one that was listed."""
        if self.file is not None and look_at(self.file.path) != self.file:
            raise SourceError(f"{shown(self.file.path)}: changed while it was read; run again")


class Position(NamedTuple):
    """How far a growing table is in: whole up to `done`, begun up to `begun`; None: never."""

    first: int | None
    done: int | None
    begun: int | None


Positions = Callable[[str], Position]


def nowhere(_key: str) -> Position:
    """Know no position: everything is new."""
    return Position(None, None, None)


def key_of(*parts: object) -> str:
    """Digest what names a thing: short, free of secrets, the same in every process."""
    text = "\n".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def done_mark(key: str) -> str:
    """Name the mark of a growing table's position."""
    return f"position:{key}"


def first_mark(key: str) -> str:
    """Name the mark of the version at which a growing table was first read."""
    return f"first:{key}"


def in_groups(
    deliveries: Sequence[Delivery], max_bytes: int, max_number: int
) -> list[list[Delivery]]:
    """Divide deliveries, in order, into groups that are judged together.

    >>> [len(g) for g in in_groups([Delivery(str(i), "", 4) for i in range(5)], 10, 2)]
    [2, 2, 1]
    """
    groups: list[list[Delivery]] = []
    room = 0
    for delivery in deliveries:
        if not groups or delivery.size > room or len(groups[-1]) == max_number:
            groups.append([])
            room = max_bytes
        groups[-1].append(delivery)
        room -= delivery.size
    return groups

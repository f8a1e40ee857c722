"""Walk the frames of an Arrow IPC stream before Arrow reads it: kinds, rows, compression, ends.

Arrow allocates what a stream claims: a few bytes may claim a terabyte. So claims are read first,
by bounds-checked look-ups in the metadata (FlatBuffers; Message.fbs and Schema.fbs of the Arrow
columnar format, version 1.5), and only a stream whose claims are modest is given to Arrow. Knows
bytes; knows nothing of columns, contracts or what is answered.
"""

import struct
from typing import NamedTuple

CONTINUATION = 0xFFFFFFFF
# A stream of 5,000 rows has a handful of frames; each costs some microseconds however small.
MAX_FRAMES = 1000
# Whoever registers an extension type runs code when a schema names it.
EXTENSION = b"ARROW:extension"

SCHEMA, DICTIONARY_BATCH, RECORD_BATCH = 1, 2, 3
# Fields by their place in the tables of Message.fbs.
MESSAGE_KIND, MESSAGE_HEADER, MESSAGE_BODY_LENGTH = 1, 2, 3
BATCH_ROWS, BATCH_COMPRESSION = 0, 3
DICTIONARY_DATA = 1


class FrameError(ValueError):
    """Bytes that are no Arrow stream, or claim what no honest stream needs."""


class Frame(NamedTuple):
    """One message: what it is, and how many rows it claims."""

    kind: int
    num_rows: int


class Table(NamedTuple):
    """A table of a FlatBuffer: the bytes that hold it, and its place among them."""

    content: memoryview
    place: int

    def field(self, index: int) -> int:
        """Give the place of a field, 0 where the table has none."""
        vtable = self.place - _number("<i", self.content, self.place)
        entry = 4 + 2 * index
        if entry + 2 > _number("<H", self.content, vtable):
            return 0
        offset = _number("<H", self.content, vtable + entry)
        return self.place + offset if offset else 0

    def number(self, index: int, layout: str) -> int:
        """Read a number of a struct layout, 0 where the table has none."""
        place = self.field(index)
        return _number(layout, self.content, place) if place else 0

    def table(self, index: int) -> "Table | None":
        """Follow a field that refers to another table."""
        place = self.field(index)
        if not place:
            return None
        return Table(self.content, place + _number("<I", self.content, place))


def read_frames(stream: bytes) -> list[Frame]:
    """List the frames of a stream: one schema, then batches, then its end and nothing behind it.

    Raises FrameError for bytes that are otherwise, for compressed bodies, extension types, and more
    than MAX_FRAMES frames.
    """
    content, place = memoryview(stream), 0
    frames: list[Frame] = []
    while True:
        if _number("<I", content, place) != CONTINUATION:
            raise FrameError("a frame does not begin with ff ff ff ff: this is no Arrow IPC stream")
        size = _number("<i", content, place + 4)
        place += 8
        if size == 0:
            break
        if len(frames) == MAX_FRAMES:
            raise FrameError(f"more than {MAX_FRAMES} frames; write larger batches")
        _refuse_beyond(size, len(content) - place)
        frame, body = _read_message(content[place : place + size], not frames)
        frames.append(frame)
        place += size
        _refuse_beyond(body, len(content) - place)
        place += body
    if not frames:
        raise FrameError("the stream ends before its schema")
    if place != len(content):
        raise FrameError(f"{len(content) - place} bytes behind the end of the stream")
    return frames


def _read_message(metadata: memoryview, first: bool) -> tuple[Frame, int]:
    """Read a message's claims; the second is the length of its body."""
    message = Table(metadata, _number("<I", metadata, 0))
    kind = message.number(MESSAGE_KIND, "<B")
    body = message.number(MESSAGE_BODY_LENGTH, "<q")
    if (kind == SCHEMA) != first or kind not in (SCHEMA, DICTIONARY_BATCH, RECORD_BATCH):
        raise FrameError(f"frame of kind {kind}; send one schema, then batches of rows")
    if kind == SCHEMA:
        if EXTENSION in bytes(metadata):
            raise FrameError("an extension type; send plain columns")
        return Frame(kind, 0), body
    batch = message.table(MESSAGE_HEADER)
    if batch is not None and kind == DICTIONARY_BATCH:
        batch = batch.table(DICTIONARY_DATA)
    if batch is None:
        raise FrameError("a batch without a header")
    if batch.field(BATCH_COMPRESSION):
        raise FrameError("a compressed body; write the stream without compression")
    num_rows = batch.number(BATCH_ROWS, "<q")
    if num_rows < 0:
        raise FrameError(f"a batch claims {num_rows} rows")
    return Frame(kind, num_rows), body


def _refuse_beyond(size: int, left: int) -> None:
    if size < 0 or size > left:
        raise FrameError(f"{size} bytes are claimed where {left} are left")


def _number(layout: str, content: memoryview, place: int) -> int:
    # struct itself counts from the end when a place is negative.
    if place < 0 or place + struct.calcsize(layout) > len(content):
        raise FrameError("a frame is cut off or points outside of itself")
    number: int = struct.unpack_from(layout, content, place)[0]
    return number

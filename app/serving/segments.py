"""The segments of a spool: their form on disk, and how they are read again.

A segment is a row of CRC-framed records. The first describes the tables; each of the others holds
rows of several tables, as Arrow batches or, where rows are few, as JSON lists of plain values. In a
sealed segment a frame with its wrapped key comes first and every record is sealed. Knows bytes and
Arrow; knows nothing of who writes, of what rows mean, or of Delta.
"""

import contextlib
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from app.background import no_rest
from app.data.sealing import SealBroken
from app.security.keyring import Keyring
from app.serving.seals import SegmentSeal

HEAD = struct.Struct("<4sII")  # Mark, length of the payload, CRC-32 of the payload.
PART = struct.Struct("<HI")  # Position of the table in the segment's header, length of the bytes.
MARK = b"MSF1"
KEY_MARK = b"MSK1"  # Before the first record of a sealed segment: its wrapped key.
VALUES = 0x8000  # Beside a table's position: the part holds plain values, no Arrow batch.
OPEN, CLOSED, DAMAGED = ".open", ".segment", ".damaged"


class Segment(NamedTuple):
    """What one segment file holds."""

    tables: dict[str, pa.Table]
    torn_bytes: int
    damaged: bool


def read_segment(
    path: Path, keyring: Keyring | None = None, rest: Callable[[], None] = no_rest
) -> Segment:
    """Read every whole record of a segment; a sealed one with the ring of keys.

    The end of a file whose writer died may be torn: it was never acknowledged and is left out. A
    record that is whole but fails its checksum, or its seal, is damage: it and what follows are
    left out, and said so. `rest` is called between the many small steps of it. Raises SecretError
    for a sealed segment without its key.
    """
    # Records are looked at where they lie: a bulk request's are large.
    content = memoryview(path.read_bytes())
    reading = _Reading(rest)
    position, damaged = 0, False
    while position + HEAD.size <= len(content):
        mark, length, checksum = HEAD.unpack_from(content, position)
        known = mark == MARK or (mark == KEY_MARK and position == 0)
        payload = content[position + HEAD.size : position + HEAD.size + length]
        if known and len(payload) < length:
            break
        if not known or zlib.crc32(payload) != checksum:
            damaged = True
            break
        try:
            reading.take(mark, payload, keyring)
        except SealBroken:
            damaged = True
            break
        position += HEAD.size + length
    return Segment(reading.tables(), len(content) - position, damaged)


class _Reading:
    """What was read of a segment so far."""

    def __init__(self, rest: Callable[[], None]) -> None:
        self._rest = rest
        self._schemas: list[tuple[str, pa.Schema]] = []
        self._batches: dict[str, list[pa.RecordBatch]] = {}
        self._values: dict[str, list[list[Any]]] = {}
        self._seal: SegmentSeal | None = None

    def take(self, mark: bytes, payload: memoryview, keyring: Keyring | None) -> None:
        """Read the next frame: the key, the schemas, or rows."""
        self._rest()
        if mark == KEY_MARK:
            self._seal = SegmentSeal.of(bytes(payload), keyring)
            return
        if self._seal is not None:
            payload = memoryview(self._seal.open(payload))
        if self._schemas:
            self._add_rows(payload)
            return
        for _, part in _parts(payload):
            label, _, described = bytes(part).partition(b"\0")
            self._schemas.append((label.decode(), pa.ipc.read_schema(pa.py_buffer(described))))

    def _add_rows(self, payload: memoryview) -> None:
        for index, part in _parts(payload):
            name, schema = self._schemas[index & ~VALUES]
            if index & VALUES:
                self._values.setdefault(name, []).extend(orjson.loads(part))
                continue
            self._settle(name, schema)
            # A copy of its own is aligned, as Arrow wants it.
            batch = pa.ipc.read_record_batch(pa.py_buffer(bytes(part)), schema)
            self._batches.setdefault(name, []).append(batch)

    def _settle(self, name: str, schema: pa.Schema) -> None:
        """Make a batch of the plain rows that came since the last one."""
        rows = self._values.pop(name, [])
        if rows:
            arrays = []
            for cells, kind in zip(zip(*rows, strict=True), schema.types, strict=True):
                arrays.append(pa.array(cells, kind))
                self._rest()
            batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
            self._batches.setdefault(name, []).append(batch)

    def tables(self) -> dict[str, pa.Table]:
        """Give the rows by table."""
        for name, schema in self._schemas:
            self._settle(name, schema)
        return {
            name: pa.Table.from_batches(self._batches[name], schema)
            for name, schema in self._schemas
            if name in self._batches
        }


def number_of(path: Path) -> int:
    """Give a segment's number, which only rises within a spool.

    >>> number_of(Path("0000000007.sealed-k1x2f.segment")), number_of(Path("0000000008.open"))
    (7, 8)
    """
    return int(path.name.partition(".")[0])


def bytes_in(folder: Path) -> int:
    """Add up the segments of a folder, damaged ones too; some may be taken away meanwhile."""
    total = 0
    for path in folder.iterdir():
        if path.suffix in (OPEN, CLOSED, DAMAGED):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
    return total


def frame(payload: bytes, mark: bytes = MARK) -> bytes:
    """Wrap a payload so that a reader can tell whether all of it arrived.

    >>> frame(b"row")[:4], len(frame(b"row"))
    (b'MSF1', 15)
    """
    return HEAD.pack(mark, len(payload), zlib.crc32(payload)) + payload


def batch_part(position: int, batch: pa.RecordBatch) -> bytes:
    """Write rows of the table at a position as an Arrow batch."""
    return part_of(position, batch.serialize().to_pybytes())


def values_part(position: int, rows: Sequence[Sequence[Any]]) -> bytes:
    """Write rows of the table at a position as plain values in the order of its schema.

    A time is microseconds since 1970; numbers are finite: JSON has no others.
    """
    return part_of(position | VALUES, orjson.dumps(rows))


def part_of(position: int, content: bytes) -> bytes:
    """Write a part of a record: what it is about, its length, its content."""
    return PART.pack(position, len(content)) + content


def _parts(payload: memoryview) -> Iterator[tuple[int, memoryview]]:
    position = 0
    while position < len(payload):
        index, length = PART.unpack_from(payload, position)
        position += PART.size
        yield index, payload[position : position + length]
        position += length

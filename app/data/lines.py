"""Divide a stream of text into blocks of whole records, however long it is.

Knows bytes, line ends and quotes; knows nothing of what the records mean. Memory holds one block
and at most one line; a record that cannot be held, or whose quote never closes, costs its own line
and no other.
"""

import functools
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from app.data.pieces import BLOCK_BYTES, MEGABYTE, Limits, SourceError
from app.data.stores import first_line

BOM = b"\xef\xbb\xbf"
# A carriage return at the end of what has been read may be half of a line end.
ROW_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
OBJECT_END = re.compile(rb"\n")
NEW_LINE = re.compile(rb"[\r\n]")
ROW_ENDS = (b"", b"\r", b"\n")

Quote = Literal["closed", "open", "astray"]


class Records(NamedTuple):
    """Some whole records; or, with a problem, one line that is none."""

    content: bytes
    problem: str | None = None


class Unpacked:
    """A stream of unpacked bytes that stops a bomb. Raises SourceError when it cannot go on."""

    def __init__(self, stream: Any, place: str, packed: int, limits: Limits) -> None:
        """Watch a stream that `packed` bytes unpack to."""
        self._stream, self._place, self._packed, self._limits = stream, place, packed, limits
        self._unpacked = 0

    def read(self, size: int) -> bytes:
        """Read some more bytes, none at the end."""
        try:
            content: bytes = self._stream.read(size)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(
                f"{self._place}: the file cannot be read, deliver it again ({first_line(error)})"
            ) from error
        self._unpacked += len(content)
        self._limits.refuse_bomb(self._place, self._packed, self._unpacked)
        return content


@functools.cache
def quoted(delimiter: bytes) -> re.Pattern[bytes]:
    """Find fields in quotes: one opens only at a field's beginning, and closes unless doubled."""
    before = re.escape(delimiter)
    return re.compile(rb"(?:(?<=[\n\r]|" + before + rb')|\A)"[^"]*(?:""[^"]*)*("|\Z)')


def divide(
    stream: Unpacked, max_line_bytes: int, *, quotes: bool, delimiter: bytes = b","
) -> Iterator[Records]:
    """Divide a stream into blocks of whole records.

    With quotes, a record has fields between delimiters, of one byte, and may hold line ends.
    """
    buffer, start, ended = stream.read(BLOCK_BYTES).removeprefix(BOM), 0, False
    while start < len(buffer) or not ended:
        end, quote = _whole(buffer, start, ended=ended, delimiter=delimiter if quotes else b"")
        too_long = len(buffer) - start > max_line_bytes
        if end > start:
            yield Records(buffer[start:end])
            start = end
        elif quote == "astray" or too_long or (ended and start < len(buffer)):
            yield Records(b"", _problem(quote, max_line_bytes))
            buffer, start = _after_line(buffer, start, stream, ROW_END if quotes else OBJECT_END)
        else:
            more = stream.read(BLOCK_BYTES)
            buffer, start, ended = buffer[start:] + more, 0, not more


def _whole(buffer: bytes, start: int, *, ended: bool, delimiter: bytes) -> tuple[int, Quote]:
    """Find the end of the whole records from a place on; tell what is wrong with the next quote.

    A quote that is open may be closed by what follows. One is astray when its field goes over a
    line end and does not end with it: it swallowed rows.
    """
    if not delimiter:
        return (len(buffer) if ended else buffer.rfind(b"\n", start) + 1), "closed"
    end, gap = start, start
    for field in quoted(delimiter).finditer(buffer, start):
        closed, (first, last) = field.group(1), field.span()
        if closed and not NEW_LINE.search(buffer, first, last):
            continue
        end = max(end, _last_line_end(buffer, gap, first))
        if not closed:
            return end, "open"
        if buffer[last : last + 1] not in (delimiter, *ROW_ENDS):
            return end, "astray"
        gap = last
    if ended:
        return len(buffer), "closed"
    # A carriage return at the end may be half of a line end.
    return max(end, _last_line_end(buffer, gap, len(buffer) - 1)), "closed"


def _last_line_end(buffer: bytes, start: int, stop: int) -> int:
    return max(buffer.rfind(b"\n", start, stop + 1), buffer.rfind(b"\r", start, stop)) + 1


def _problem(quote: Quote, max_line_bytes: int) -> str:
    if quote == "closed":
        return f"is a line of more than {max_line_bytes // MEGABYTE} MB"
    return "opens a quote that is not closed; the next line is read as a row of its own"


def _after_line(
    buffer: bytes, start: int, stream: Unpacked, line_end: re.Pattern[bytes]
) -> tuple[bytes, int]:
    """Return what has been read, and where its next line begins, holding a block of the line."""
    while not (end := line_end.search(buffer, start)):
        buffer, start = stream.read(BLOCK_BYTES), 0
        if not buffer:
            return b"", 0
    return buffer, end.end()


def first_record(buffer: bytes, delimiter: bytes = b",") -> bytes:
    """Return the first record of a block, with its line end."""
    hidden = quoted(delimiter).sub(lambda field: b"\0" * len(field.group()), buffer)
    end = ROW_END.search(hidden)
    return buffer[: end.end()] if end else buffer

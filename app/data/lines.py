"""Divide a stream of text into blocks of whole records, however long it is.

Knows bytes, line ends and quotes; knows nothing of what the records mean. Memory holds one block
and at most one line; a record that cannot be held, or whose quote never closes, costs its own line
and no other.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from app.data.pieces import BLOCK_BYTES, MEGABYTE, Limits

BOM = b"\xef\xbb\xbf"
# A quote opens a field only at its beginning, and closes it unless it is doubled.
QUOTED = re.compile(rb'(?:(?<=[,\n\r])|\A)"[^"]*(?:""[^"]*)*("|\Z)')
# A carriage return at the end of what has been read may be half of a line end.
ROW_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
OBJECT_END = re.compile(rb"\n")


class Records(NamedTuple):
    """Some whole records; or, with a problem, one line that is none."""

    content: bytes
    problem: str | None = None


class Unpacked:
    """A stream of unpacked bytes that stops a bomb. Raises SourceError when it has come too far."""

    def __init__(self, stream: Any, place: str, packed: int, limits: Limits) -> None:
        """Watch a stream that `packed` bytes unpack to."""
        self._stream, self._place, self._packed, self._limits = stream, place, packed, limits
        self._unpacked = 0

    def read(self, size: int) -> bytes:
        """Read some more bytes, none at the end."""
        content: bytes = self._stream.read(size)
        self._unpacked += len(content)
        self._limits.refuse_bomb(self._place, self._packed, self._unpacked)
        return content


def divide(stream: Unpacked, max_line_bytes: int, *, quotes: bool) -> Iterator[Records]:
    """Divide a stream into blocks of whole records; with quotes, a record may hold line ends."""
    rest, ended = stream.read(BLOCK_BYTES).removeprefix(BOM), False
    while rest or not ended:
        whole, unclosed = _whole(rest, ended=ended, quotes=quotes)
        if whole:
            yield Records(rest[:whole])
            rest = rest[whole:]
        elif (ended and rest) or len(rest) > max_line_bytes:
            yield Records(b"", _problem(max_line_bytes, unclosed=unclosed))
            rest = _after_line(rest, stream, ROW_END if quotes else OBJECT_END)
        if not ended and len(rest) <= max_line_bytes:
            more = stream.read(BLOCK_BYTES)
            rest, ended = rest + more, not more


def _whole(buffer: bytes, *, ended: bool, quotes: bool) -> tuple[int, bool]:
    """Give the length of the whole records at the beginning; tell whether a quote stays open."""
    if not quotes:
        return (len(buffer) if ended else buffer.rfind(b"\n") + 1), False
    unclosed = False

    def hide(field: re.Match[bytes]) -> bytes:
        nonlocal unclosed
        unclosed = not field.group(1)
        return b"\0" * len(field.group())

    plain = QUOTED.sub(hide, buffer) if b'"' in buffer else buffer
    if ended and not unclosed:
        return len(buffer), False
    return max(plain.rfind(b"\n"), plain.rfind(b"\r", 0, max(len(plain) - 1, 0))) + 1, unclosed


def _problem(max_line_bytes: int, *, unclosed: bool) -> str:
    if unclosed:
        return "opens a quote that is not closed; the next line is read as a row of its own"
    return f"is a line of more than {max_line_bytes // MEGABYTE} MB"


def _after_line(buffer: bytes, stream: Unpacked, line_end: re.Pattern[bytes]) -> bytes:
    """Return what has been read after the first line, holding no more than a block of the line."""
    while not (end := line_end.search(buffer)):
        buffer = stream.read(BLOCK_BYTES)
        if not buffer:
            return b""
    return buffer[end.end() :]


def first_record(buffer: bytes) -> bytes:
    """Return the first record of a block, with its line end."""
    hidden = QUOTED.sub(lambda field: b"\0" * len(field.group()), buffer)
    end = ROW_END.search(hidden)
    return buffer[: end.end()] if end else buffer

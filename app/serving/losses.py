"""Count what was answered and not kept, where counting needs no room: in a file made beforehand.

The file is written in place, in blocks that it has had since the process began, so that a full disk
does not lose the count too, nor does the end of the process. Knows counts, times and one file;
knows nothing of rows, requests or the ledger.
"""

import logging
import os
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import orjson

Reason = Literal["disk_full", "spool_full", "not_writable", "no_key"]

logger = logging.getLogger(__name__)
TALLY = "losses"
HEAD = struct.Struct("<4sQII")  # Mark, serial number, length of the payload, CRC-32 of both.
MARK = b"MSL1"
# Two, written in turn: a write that is cut short leaves the one before.
SLOT_BYTES = 16 * 1024
# After so long without a loss the next one begins another gap.
GAP_SECONDS = 60.0
MOST_GAPS = 64


class Gap(NamedTuple):
    """Rows of one table that were not kept, for one reason, from a time to a time.

    Times are seconds since 1970, of the machine's clock.
    """

    table: str
    reason: Reason
    first_at: float
    last_at: float
    num_rows: int


class Losses:
    """The gaps of one process. Safe to use from several threads."""

    def __init__(self, folder: Path, wall: Callable[[], float]) -> None:
        """Make the file and take its room. Raises OSError where there is none."""
        self._wall = wall
        self._guard = threading.Lock()
        self._gaps: list[Gap] = []
        self._latest: dict[tuple[str, str], int] = {}
        self._serial = 0
        self._is_written = True
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(folder / TALLY, flags, 0o600)
        if os.write(self._file, bytes(2 * SLOT_BYTES)) < 2 * SLOT_BYTES:
            raise OSError(f"{folder / TALLY}: no room to count losses; free space on this disk")

    def add(self, rows: Mapping[str, int], reason: Reason) -> None:
        """Count rows of several tables as lost. Never raises: whoever calls has an answer to give.

        Where the file cannot be written the counts are still told by `gaps`.
        """
        with self._guard:
            now = self._wall()
            for table, number in rows.items():
                if number:
                    self._add(table, reason, now, number)
            self._write()

    @property
    def gaps(self) -> list[Gap]:
        """What was lost since the process began, in the order in which gaps began."""
        with self._guard:
            return list(self._gaps)

    def by_table(self) -> dict[str, int]:
        """Rows that were lost since the process began, by table."""
        lost = Counter[str]()
        for gap in self.gaps:
            lost[gap.table] += gap.num_rows
        return dict(lost)

    def _add(self, table: str, reason: Reason, now: float, number: int) -> None:
        place = self._latest.get((table, reason))
        if place is not None:
            gap = self._gaps[place]
            # A clock that was put back ends no gap, and turns none round.
            if now - gap.last_at <= GAP_SECONDS or len(self._gaps) >= MOST_GAPS:
                last, total = max(gap.last_at, now), gap.num_rows + number
                self._gaps[place] = gap._replace(last_at=last, num_rows=total)
                return
        self._latest[table, reason] = len(self._gaps)
        self._gaps.append(Gap(table, reason, now, now, number))

    def _write(self) -> None:
        self._serial += 1
        content = orjson.dumps(self._gaps, default=tuple)
        head = HEAD.pack(MARK, self._serial, len(content), zlib.crc32(content, self._serial))
        assert len(head) + len(content) <= SLOT_BYTES, "gaps are bounded"
        try:
            os.pwrite(self._file, head + content, self._serial % 2 * SLOT_BYTES)
        except OSError:
            if self._is_written:
                logger.exception("losses are counted in memory only")
            self._is_written = False
            return
        self._is_written = True


def read_gaps(folder: Path) -> list[Gap]:
    """Read what the owner of a folder has lost; nothing where it counted nothing."""
    try:
        content = (folder / TALLY).read_bytes()
    except FileNotFoundError:
        return []
    found = (_read_slot(content[start : start + SLOT_BYTES]) for start in (0, SLOT_BYTES))
    _, payload = max(found)
    return [Gap(*gap) for gap in orjson.loads(payload)]


def _read_slot(slot: bytes) -> tuple[int, bytes]:
    """Give a slot's serial number and payload; one that is not whole is older than any."""
    if len(slot) < HEAD.size:
        return 0, b"[]"
    mark, serial, length, checksum = HEAD.unpack_from(slot)
    payload = slot[HEAD.size : HEAD.size + length]
    if mark != MARK or zlib.crc32(payload, serial & 0xFFFFFFFF) != checksum:
        return 0, b"[]"
    return serial, payload

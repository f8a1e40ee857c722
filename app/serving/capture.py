"""Keep what a replica must not forget: a spool of rows on local disk, written before the answer.

One append is one write of one CRC-framed record, so the tables of a request are kept all together
or not at all. A plain write, no sync: it survives the process, not the machine. With a ring of keys
each record is sealed before it is framed. A spool takes no more than its bound: what is there and
not shipped is never given up for what comes. Knows rows and files; knows nothing of what the rows
mean, of Delta or of HTTP.
"""

import contextlib
import errno
import logging
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.data.locks import locked
from app.data.schemas import cast_rows
from app.security.keyring import Keyring
from app.security.secrets import SecretError
from app.serving.losses import Losses, Reason
from app.serving.seals import SegmentSeal
from app.serving.segments import (
    CLOSED,
    KEY_MARK,
    OPEN,
    batch_part,
    bytes_in,
    frame,
    part_of,
    values_part,
)

logger = logging.getLogger(__name__)
# EFBIG: a limit on what this process may write has been reached, which is no different.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# Beyond this share of its room a spool has none for what can be done without.
SHORT_SHARE = 0.75


class SpoolRefused(OSError):
    """The record could not be kept.

    Without a reason the spool is closed: another process answers from now on.
    """

    def __init__(self, message: str, reason: Reason | None) -> None:
        super().__init__(message)
        self.reason = reason


class Spool:
    """Append records to numbered segment files in a folder of this process's own.

    The folder is locked while the process lives; when it dies the kernel frees the lock and another
    process may adopt the folder. Safe to call from several threads.
    """

    def __init__(
        self,
        root: Path,
        schemas: Mapping[str, pa.Schema],
        max_segment_mb: float = 16,
        keyring: Keyring | None = None,
        max_mb: float = float("inf"),
        counts_losses_by: Callable[[], float] | None = None,
    ) -> None:
        """Create the folder `root/<spool id>`; the order of `schemas` is the order of shipping.

        With a ring of keys segments are sealed, each with a key of its own. Given a clock, in
        seconds since 1970, the spool counts what could not be kept and was answered all the same;
        without one, see `lose`, it lets nothing be answered.
        """
        self.id = uuid.uuid4().hex
        self.folder = root / self.id
        self._schemas = dict(schemas)
        self._positions = {name: position for position, name in enumerate(schemas)}
        self._max_bytes = int(max_segment_mb * 2**20)
        self._most_bytes = max_mb * 2**20
        self._closed_bytes = 0
        # What dead processes have left beside this spool, as last seen by whoever ships.
        self.left_bytes = 0
        self._guard = threading.Lock()
        self._captured: Counter[str] = Counter()
        self._sequence = 0
        self._keyring = keyring
        self._seal: SegmentSeal | None = None
        self._ending = ""
        self._file: int | None = None
        self._size = 0
        self._closed = False
        root.mkdir(parents=True, exist_ok=True)
        # Nobody may adopt the folder between its creation and its lock.
        with locked(root / "lock"):
            self.folder.mkdir(mode=0o700)
            self._lock = contextlib.ExitStack()
            self.lock_descriptor = self._lock.enter_context(locked(self.folder / "lock"))
        self.losses = Losses(self.folder, counts_losses_by) if counts_losses_by else None

    def append(self, tables: Mapping[str, pa.Table]) -> None:
        """Keep rows of several tables in one write; returns when they survive this process.

        Raises SpoolRefused when they are not taken; then none of them is kept.
        """
        parts = [
            batch_part(self._positions[name], batch)
            for name, table in tables.items()
            for batch in cast_rows(table, self._schemas[name]).to_batches()
            if batch.num_rows
        ]
        if parts:
            self._keep(b"".join(parts), {name: len(table) for name, table in tables.items()})

    def append_values(self, rows: Mapping[str, Sequence[Sequence[Any]]]) -> None:
        """Keep a few rows of several tables likewise, as plain values; see segments.values_part."""
        parts = [values_part(self._positions[name], each) for name, each in rows.items()]
        self._keep(b"".join(parts), {name: len(each) for name, each in rows.items()})

    def _keep(self, record: bytes, counts: Mapping[str, int]) -> None:
        with self._guard:
            if self._closed:
                raise SpoolRefused(f"spool {self.folder}: closed; this process is ending", None)
            self._refuse_beyond_bound(len(record))
            self._write(record)
            self._captured.update(counts)
            if self._size >= self._max_bytes:
                self._roll()

    def roll(self) -> None:
        """Close the segment under way, if it holds anything, so that it can be shipped."""
        with self._guard:
            self._roll()

    def close(self) -> None:
        """Close the last segment and let the folder go: whoever finds it may ship it."""
        with self._guard:
            self._roll()
            self._closed = True
            self._lock.close()

    def lose(self, rows: Mapping[str, Sized], refused: SpoolRefused) -> bool:
        """Count rows that were refused, by table, as lost; False where they must not be lost."""
        with self._guard:
            # Once the folder is let go, whoever reports what it counts may have done so.
            if self.losses is None or refused.reason is None or self._closed:
                return False
            self.losses.add({name: len(each) for name, each in rows.items()}, refused.reason)
            return True

    def recount(self) -> None:
        """Look how much is left of what was kept: to be called by whoever has shipped some of it.

        What is damaged stays and counts.
        """
        with self._guard:
            self._closed_bytes = max(0, bytes_in(self.folder) - self._size)

    @property
    def num_bytes(self) -> int:
        """Bytes that were kept and are not shipped, with those that dead processes have left."""
        return self._closed_bytes + self._size + self.left_bytes

    @property
    def is_short(self) -> bool:
        """Whether there is room only for what cannot be done without."""
        return self.num_bytes > SHORT_SHARE * self._most_bytes

    @property
    def captured(self) -> dict[str, int]:
        """Rows kept so far, by table."""
        with self._guard:
            return dict(self._captured)

    def _refuse_beyond_bound(self, num_bytes: int) -> None:
        if self.num_bytes + num_bytes > self._most_bytes:
            raise SpoolRefused(
                f"spool {self.folder}: {self.num_bytes} bytes wait to be shipped, which is all "
                "that may; see why they are not shipped, or raise serving.capture.max_spool_mb",
                "spool_full",
            )

    def _write(self, record: bytes) -> None:
        if self._file is None:
            self._begin()
        assert self._file is not None
        record = frame(self._seal.close(record) if self._seal else record)
        try:
            _write_all(self._file, record)
        except OSError as error:
            # A half-written record would hide those after it, and its number is used up.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            self._roll()
            raise self._refused(error) from error
        self._size += len(record)

    def _begin(self) -> None:
        self._sequence += 1
        described = b"".join(
            part_of(position, name.encode() + b"\0" + self._schemas[name].serialize().to_pybytes())
            for name, position in self._positions.items()
        )
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        try:
            # No key is retired between its choice and the file that says that it is needed.
            with locked(self.folder.parent / "lock") if self._keyring else nullcontext():
                header = self._begin_seal(described)
                self._file = os.open(self._path(OPEN), flags, 0o600)
            _write_all(self._file, header)
        except OSError as error:
            self._give_up_segment()
            raise self._refused(error) from error
        except SecretError as error:
            raise SpoolRefused(f"spool {self.folder}: {error}", "no_key") from error
        self._size = len(header)

    def _give_up_segment(self) -> None:
        """Leave no file of a segment that could not be begun: there is one for every try."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            with contextlib.suppress(OSError):
                self._path(OPEN).unlink()

    def _refused(self, error: OSError) -> SpoolRefused:
        reason: Reason = "disk_full" if error.errno in NO_ROOM else "not_writable"
        change = "free space on this disk" if reason == "disk_full" else "mend this disk"
        return SpoolRefused(f"spool {self.folder}: {error.strerror}; {change}", reason)

    def _begin_seal(self, described: bytes) -> bytes:
        """Choose the key of a new segment, if it is to be sealed; returns the segment's header."""
        if self._keyring is None:
            return frame(described)
        key_id = self._keyring.current()
        self._seal = SegmentSeal.make(self._keyring, key_id)
        self._ending = f".sealed-{key_id}"
        return frame(self._seal.wrapped, KEY_MARK) + frame(self._seal.close(described))

    def _roll(self) -> None:
        if self._file is None:
            return
        os.close(self._file)
        self._file = None
        self._closed_bytes += self._size
        self._size = 0
        try:
            self._path(OPEN).rename(self._path(CLOSED))
        except OSError:
            # What it holds is kept; whoever adopts the folder ships it.
            logger.exception("%s: the segment cannot be renamed", self._path(OPEN))

    def _path(self, ending: str) -> Path:
        return self.folder / f"{self._sequence:010d}{self._ending}{ending}"


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]

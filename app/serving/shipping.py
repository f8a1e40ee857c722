"""Ship spooled segments to the tables, each exactly once, and adopt the spools of dead processes.

A segment's number is the application transaction of its append, so a segment that was shipped and
not yet deleted when the process died is not doubled. Rows of subjects that were erased meanwhile
are left out; while it cannot be told who was, nothing is shipped and the spool waits. What a dead
process has lost is reported before its folder goes. Knows files, locks and tables; knows nothing of
what rows mean.
"""

import contextlib
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, cast

import pyarrow as pa

from app.background import Rounds, no_rest
from app.data.arrivals import Arrival
from app.data.forgetting import forget_captured
from app.data.locks import locked
from app.data.tables import TableName, Tables
from app.serving.capture import Spool
from app.serving.losses import TALLY, Gap, read_gaps
from app.serving.segments import CLOSED, DAMAGED, OPEN, bytes_in, number_of, read_segment

# Takes the id of a spool and what its owner has lost so far; told twice, it counts once.
Report = Callable[[str, Sequence[Gap]], None]
Arriving = Callable[[], AbstractContextManager[Arrival | None]]
logger = logging.getLogger(__name__)
ADOPT_SECONDS = 5.0
MAX_PAUSE_SECONDS = 10.0
STOP_SECONDS = 5.0


class ShippingCounts(NamedTuple):
    """How far the shipping has come, in rows by table."""

    captured: dict[str, int]
    shipped: dict[str, int]
    adopted: dict[str, int]
    problem: str | None


def ship_folder(
    folder: Path,
    tables: Tables,
    shipped: Counter[str],
    arrival: Arrival | None = None,
    rest: Callable[[], None] = no_rest,
) -> None:
    """Append every closed segment of a spool in order, delete it, and count its rows in `shipped`.

    Rows about erased subjects are not appended. Segments are numbered upwards and a table remembers
    the highest number, so the order must not change: the first failure ends the round and is
    raised. `rest` is called between the steps of reading.
    """
    for path in sorted(folder.glob(f"*{CLOSED}")):
        segment = read_segment(path, tables.sealing.keyring, rest)
        if segment.torn_bytes:
            logger.warning(
                "%s: left out %d bytes that were never acknowledged or are damaged",
                path,
                segment.torn_bytes,
            )
        rows = segment.tables
        if arrival is not None:
            rows = _admitted(rows, tables, arrival)
        for name, table in rows.items():
            transaction = (f"{folder.name}:{name}", number_of(path))
            tables.append(cast(TableName, name), table, transaction=transaction)
        if segment.damaged:
            logger.error("%s: a record fails its checksum; the file is kept as %s", path, DAMAGED)
            path.rename(path.with_suffix(DAMAGED))
        else:
            path.unlink()
        shipped.update({name: table.num_rows for name, table in segment.tables.items()})


def _admitted(rows: dict[str, pa.Table], tables: Tables, arrival: Arrival) -> dict[str, pa.Table]:
    """Leave out rows about erased subjects, and note them: their outcomes may come later."""
    schema = tables.schema("quarantine")
    captured = forget_captured(rows, schema, tables.contract, arrival.erased)
    if captured.dropped:
        arrival.note(captured.dropped)
    return captured.tables


def adopt_spools(
    root: Path,
    tables: Tables,
    arrival: Arrival | None = None,
    report: Report | None = None,
    rest: Callable[[], None] = no_rest,
) -> Counter[str]:
    """Ship what dead processes left below `root`. Returns rows by table.

    A living owner holds its folder's lock, so its folder is passed by; so is one that another
    process is adopting at this moment. A folder that cannot be shipped now is left for the next
    round; one whose owner has lost rows, for whoever has somebody to report it to.
    """
    adopted: Counter[str] = Counter()
    for folder in _dead(root):
        try:
            for path in folder.glob(f"*{OPEN}"):
                path.rename(path.with_suffix(CLOSED))
            ship_folder(folder, tables, adopted, arrival, rest)
            _remove(folder, report)
        except Exception:
            logger.exception("%s: could not be adopted, will be tried again", folder)
    return adopted


def left_behind(root: Path) -> int:
    """Add up the bytes that dead processes left below `root` and nobody has shipped yet."""
    return sum(map(bytes_in, _dead(root)))


def _dead(root: Path) -> Iterator[Path]:
    """Give the folders of dead processes, each with its lock held until the next is asked for."""
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    for folder in folders:
        with contextlib.ExitStack() as held:
            if _claim(folder, held):
                yield folder


def _claim(folder: Path, held: contextlib.ExitStack) -> bool:
    try:
        with locked(folder.parent / "lock"):
            held.enter_context(locked(folder / "lock", wait=False))
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def _remove(folder: Path, report: Report | None) -> None:
    """Remove a folder whose lock is held and that was shipped, once what it lost is reported."""
    gaps = read_gaps(folder)
    if gaps:
        if report is None:
            return
        report(folder.name, gaps)
    (folder / TALLY).unlink(missing_ok=True)
    if not any(folder.glob(f"*{DAMAGED}")):
        # Claims are made under the same lock, so nobody can claim a folder that is half removed.
        with locked(folder.parent / "lock"):
            (folder / "lock").unlink()
            folder.rmdir()


class Shipper:
    """A thread that ships a living process's spool and adopts those of dead ones."""

    def __init__(
        self,
        spool: Spool,
        tables: Tables,
        every_seconds: float,
        arriving: Arriving = contextlib.nullcontext,
        report: Report | None = None,
        rest: Callable[[], None] = no_rest,
    ) -> None:
        """Ship so often; `arriving` tells who was erased, for as long as rows are shipped.

        `report` takes what processes have lost that are dead now; a living one reports by itself.
        `rest` is called between steps of the work, for the sake of whoever answers meanwhile.
        """
        self._arriving, self._rest = arriving, rest
        self._report = report
        self._spool = spool
        self._tables = tables
        self._every_seconds = every_seconds
        self._shipped: Counter[str] = Counter()
        self._adopted: Counter[str] = Counter()
        self._problem: str | None = None
        self._one_at_a_time = threading.Lock()
        self._num_rounds = 0
        self._pause = every_seconds
        self._rounds = Rounds("shipper", self._round, every_seconds)

    def start(self) -> None:
        """Begin to ship in the background."""
        self._look_around()
        self._rounds.start()

    def stop(self) -> None:
        """Ship what is left and end; what cannot be shipped now stays for whoever adopts it."""
        self._rounds.stop(STOP_SECONDS)
        if self._rounds.alive:
            # The folder stays locked until the process ends, which shall not wait for it.
            logger.warning("spool %s: shipping hangs; the rest stays on disk", self._spool.id)
            return
        try:
            self.ship()
        except Exception:
            logger.exception("spool %s: the rest stays on disk", self._spool.id)
        self._spool.close()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._rounds.alive

    @property
    def counts(self) -> ShippingCounts:
        """How far it has come."""
        return ShippingCounts(
            self._spool.captured, dict(self._shipped), dict(self._adopted), self._problem
        )

    def ship(self) -> None:
        """Ship everything kept so far in this process's spool."""
        with self._one_at_a_time, self._arriving() as arrival:
            self._spool.roll()
            try:
                folder = self._spool.folder
                ship_folder(folder, self._tables, self._shipped, arrival, self._rest)
            finally:
                self._spool.recount()

    def _look_around(self) -> None:
        # However long shipping fails, the spool must know how much room it has.
        self._spool.left_bytes = left_behind(self._spool.folder.parent)

    def _round(self) -> float:
        rounds_to_adopt = max(1, math.ceil(ADOPT_SECONDS / self._every_seconds))
        try:
            self._look_around()
            self.ship()
            if self._num_rounds % rounds_to_adopt == 0:
                with self._arriving() as arrival:
                    root = self._spool.folder.parent
                    self._adopted += adopt_spools(
                        root, self._tables, arrival, self._report, self._rest
                    )
            self._num_rounds += 1
            self._pause, self._problem = self._every_seconds, None
        except Exception as error:
            logger.exception("spool %s: shipping failed, will be tried again", self._spool.id)
            self._pause = min(2 * self._pause, MAX_PAUSE_SECONDS)
            self._problem = f"{type(error).__name__}: {error}"
        return self._pause

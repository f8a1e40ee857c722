"""Bring spooled segments into the tables, each exactly once, and adopt spools of dead processes.

A segment's number is the application transaction of its append, so a segment that was shipped and
not yet deleted when the process died is not doubled. Rows of subjects that were erased meanwhile
are left out; while it cannot be told who was, nothing is shipped and the spool waits. What a dead
process has lost is reported before its folder goes. Knows files, locks and tables; knows nothing of
what rows mean.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

import pyarrow as pa

from app.background import no_rest
from app.data.arrivals import Arrival
from app.data.forgetting import forget_captured
from app.data.locks import locked
from app.data.tables import TableName, Tables
from app.serving.losses import TALLY, Gap, read_gaps
from app.serving.segments import CLOSED, DAMAGED, OPEN, bytes_in, number_of, read_segment

# Takes the id of a spool and what its owner has lost so far; told twice, it counts once.
Report = Callable[[str, Sequence[Gap]], None]
Arriving = Callable[[], AbstractContextManager[Arrival | None]]
logger = logging.getLogger(__name__)


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


class Carrier:
    """Ships and adopts in this process."""

    def __init__(
        self,
        tables: Tables,
        arriving: Arriving = contextlib.nullcontext,
        report: Report | None = None,
        rest: Callable[[], None] = no_rest,
    ) -> None:
        """Bring rows into tables; `arriving` tells who was erased, for as long as rows arrive.

        `report` takes what processes have lost that are dead now; a living one reports by itself.
        `rest` is called between steps of the work, for the sake of whoever answers meanwhile.
        """
        self._tables, self._arriving, self._report, self._rest = tables, arriving, report, rest

    def ship(self, folder: Path, shipped: Counter[str]) -> None:
        """Do as ship_folder."""
        with self._arriving() as arrival:
            ship_folder(folder, self._tables, shipped, arrival, self._rest)

    def adopt(self, root: Path, adopted: Counter[str]) -> None:
        """Do as adopt_spools, and count the rows in `adopted`."""
        with self._arriving() as arrival:
            adopted += adopt_spools(root, self._tables, arrival, self._report, self._rest)

    def close(self) -> None:
        """End; nothing was begun."""

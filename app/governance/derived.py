"""What was derived from rows of a subject, and how each place forgets it.

The same three methods as the stores of rows. Knows the monitor's memory, files of scores and
reports below the workspace; knows nothing of the order in which they are asked or of receipts.
"""

import os
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import delete

from app.config import Config
from app.contracts.rows import Contract
from app.data.forgetting import ROW_ID, Mask, about_erased, identity_columns
from app.governance.needles import Needles
from app.ledger.database import Ledger
from app.ledger.epochs import next_epoch
from app.ledger.evidence import FOLDS, monitor_name, read_fold
from app.monitoring.state import FoldState, StateUnreadable, unpack
from app.security.privacy import PSEUDONYM
from app.security.tombstones import Tombstones


class MonitorStore:
    """The monitor's memory: rows of the window, packed into one row of the ledger."""

    name = "monitor"

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger

    def count(self, erased: Tombstones) -> int:
        """Count remembered rows, outcomes and samples."""
        found = read_fold(self._ledger, self._config.name)
        if found is None:
            return 0
        try:
            return _count_remembered(unpack(found.state), self._config.contract, erased)
        except StateUnreadable:
            # Nobody can say what is in it, so it counts, and goes.
            return 1

    def forget(self, erased: Tombstones) -> None:
        """Have the monitor fold the logs anew, from the beginning.

        A monitor that works now has rows in memory: it is fenced, begins again and reads the logs
        as they are now. Evidence that was recorded stays.
        """
        name = self._config.name
        with self._ledger.transaction() as connection:
            next_epoch(connection, monitor_name(name))
            connection.execute(delete(FOLDS).where(FOLDS.c.model == name))

    def remains(self, needles: Needles) -> list[str]:
        """Look into the memory that is recorded now."""
        return ["ledger, the monitor's memory"] if self.count(needles.erased) else []


def _count_remembered(state: FoldState, contract: Contract, erased: Tombstones) -> int:
    samples = about_erased("events", state.samples, contract, erased)
    samples |= erased.rows_in(state.samples[contract.id])
    others = (erased.rows_in(t[ROW_ID]) for t in (state.predictions, state.labels, state.events))
    return int(samples.sum()) + sum(int(mask.sum()) for mask in others)


class FileStore:
    """Parquet files below the workspace that are no tables: scores, comparisons, exports."""

    name = "files"

    def __init__(self, config: Config) -> None:
        self._root = config.workspace
        self._contract = config.contract
        self._tables = config.tables_path

    def count(self, erased: Tombstones) -> int:
        """Count rows."""
        return sum(
            int(self._about(pq.read_table(path), erased).sum()) for path in self._parquet_files()
        )

    def forget(self, erased: Tombstones) -> None:
        """Write each file that holds such rows anew without them."""
        for path in self._parquet_files():
            rows = pq.read_table(path)
            found = self._about(rows, erased)
            if found.any():
                _write_anew(path, rows.filter(pa.array(~found)))

    def remains(self, needles: Needles) -> list[str]:
        """Look through the rows again."""
        return [
            path.relative_to(self._root).as_posix()
            for path in self._parquet_files()
            if self._about(pq.read_table(path), needles.erased).any()
        ]

    def _parquet_files(self) -> list[Path]:
        files = self._root.rglob("*.parquet")
        return sorted(file for file in files if self._tables not in file.parents)

    def _about(self, rows: pa.Table, erased: Tombstones) -> Mask:
        """Tell which rows name an erased row or subject, by the columns' names or a pseudonym."""
        found = np.zeros(rows.num_rows, bool)
        subjects = {*identity_columns(self._contract), "entity", "subject"}
        for column in rows.schema:
            if not _is_text(column.type):
                continue
            values = rows[column.name]
            if column.name in (ROW_ID, self._contract.id):
                found |= erased.rows_in(values)
            if column.name in subjects or _has_pseudonyms(values):
                found |= erased.subjects_in(values)
        return found


class ReportStore:
    """Reports and pages: drawn from rows, and drawn again when they are wanted."""

    name = "reports"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def count(self, erased: Tombstones) -> int:
        """Count files that name a subject."""
        return len(self._naming(Needles(erased)))

    def forget(self, erased: Tombstones) -> None:
        """Delete the files that name a subject."""
        for path in self._naming(Needles(erased)):
            path.unlink()

    def remains(self, needles: Needles) -> list[str]:
        """Search the files."""
        return [f"reports/{path.relative_to(self._folder)}" for path in self._naming(needles)]

    def _naming(self, needles: Needles) -> list[Path]:
        files = sorted(path for path in self._folder.rglob("*") if path.is_file())
        return [path for path in files if needles.are_in_file(path)]


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _has_pseudonyms(values: pa.ChunkedArray) -> bool:
    distinct = values.unique().cast(pa.string()).to_pylist()
    return any(value is not None and PSEUDONYM.fullmatch(value) for value in distinct)


def _write_anew(path: Path, rows: pa.Table) -> None:
    """Write aside, sync, rename: a file is the old one or the new one, never a part."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with aside.open("wb") as output:
        pq.write_table(rows, output)
        output.flush()
        os.fsync(output.fileno())
    aside.replace(path)

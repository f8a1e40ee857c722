"""Keep rows in Delta tables below one folder: events, quarantine, predictions, labels.

Knows Delta and the contract; knows nothing of Ray, requests or decisions. Tables only grow: a
commit may carry an application transaction, so that the same batch is never in twice. Readers drop
repeats: events by the contract's id, predictions by idempotency key, labels by their latest
revision.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.exceptions import CommitFailedError

from app.config import Config
from app.contracts.rows import TIMESTAMP, Contract
from app.data.commits import add_columns, commit, is_in, live_paths, open_or_create, open_table
from app.data.compaction import SMALL_BYTES, compact_files
from app.data.datafiles import DataFile, DataFiles
from app.data.delta_log import added, latest_version, path_of, sync, transactions
from app.data.locks import committing, exclusive, shared
from app.data.replacement import finish_replacement, is_interrupted
from app.data.schemas import (
    ARRIVAL,
    cast_rows,
    private_columns,
    table_schemas,
    window_columns,
    with_nulls,
)
from app.data.schemas import NAMES as NAMES
from app.data.schemas import TableName as TableName
from app.data.sealing import Sealing, open_sealing

COMMIT_ATTEMPTS = 20


class VersionGone(ValueError):
    """A version whose files retention has deleted."""


class Tables:
    """The tables of one model. Cheap to make; safe to use from several threads and processes."""

    def __init__(self, root: Path, contract: Contract, sealing: Sealing | None = None) -> None:
        """Name the folder; it is created by the first append.

        Without a sealing new files are plain, and private columns of sealed ones cannot be read.
        """
        self.root = root
        self.contract = contract
        self._schemas = table_schemas(contract)
        self._private = private_columns(contract)
        self._later = window_columns(contract)
        self.sealing = sealing or Sealing()

    def schema(self, name: TableName) -> pa.Schema:
        """Return the Arrow schema of a table."""
        return self._schemas[name]

    def folder(self, name: TableName) -> Path:
        """Return the folder of a table's files and log."""
        return self.root / name

    def files(self, name: TableName) -> DataFiles:
        """Return what writes and reads a table's data files."""
        return DataFiles(
            self.folder(name),
            self.schema(name),
            ARRIVAL[name],
            self._private[name],
            self.sealing,
            self._later[name],
        )

    def version(self, name: TableName) -> int:
        """Return the latest version of a table, -1 when it does not exist. Cheap: made to poll."""
        return latest_version(self.folder(name))

    def transaction(self, name: TableName, application: str) -> int | None:
        """Return an application's latest transaction number in a table, None if it has none."""
        return self.transactions(name, [application]).get(application)

    def transactions(self, name: TableName, asked: Iterable[str] | None = None) -> dict[str, int]:
        """Return the latest numbers of applications, by default all, that have one in a table."""
        with self._using(name):
            numbers = transactions(self.folder(name)) if self.version(name) >= 0 else {}
        asked = numbers if asked is None else asked
        return {each: numbers[each] for each in asked if each in numbers}

    def append(
        self,
        name: TableName,
        rows: pa.Table | Callable[[], Iterable[pa.Table]],
        transaction: tuple[str, int] | Sequence[tuple[str, int]] | None = None,
        marks: Sequence[tuple[str, int]] = (),
    ) -> int | None:
        """Append rows in one commit and return the new version.

        Transactions are (application, number), numbers rising; returns None, and writes nothing,
        when all of them are already in. Marks are transactions that are committed along and decide
        nothing. Rows that are too many to be held are given as a function that reads them in parts.
        Raises ValueError when the rows do not fit the table's schema.
        """
        parts = rows if callable(rows) else partial(iter, [self._fit(name, rows)])
        self.folder(name).mkdir(parents=True, exist_ok=True)
        with self._using(name):
            return self._append(name, parts, _as_list(transaction), marks)

    def read(
        self,
        name: TableName,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        filters: Any = None,
    ) -> pa.Table:
        """Return rows as of a version, by default the latest; none when there is no table.

        `filters` is an Arrow compute expression or a list of (column, operator, value).
        """
        wanted = self.schema(name)
        if columns is not None:
            wanted = pa.schema([wanted.field(column) for column in columns])
        expression = pq.filters_to_expression(filters) if isinstance(filters, list) else filters
        with self._using(name):
            table = open_table(self.folder(name), version)
            if table is None:
                return wanted.empty_table()
            try:
                return self.files(name).scan(table, wanted.names, expression)
            except FileNotFoundError as error:
                raise VersionGone(
                    f"table {name}: files of version {table.version()} are gone; retention keeps "
                    "those of recent versions and of snapshots of live models"
                ) from error

    def scan(
        self, name: TableName, columns: Sequence[str], after: int | None = None
    ) -> Iterator[pa.Table]:
        """Read some columns of a table's latest version in parts, holding one at a time.

        `after` a version only what was appended since; all where a file of that is gone.
        """
        files = self.files(name)
        with self._using(name):
            paths = None if after is None else self._appended(name, after, self.version(name))
            for path in live_paths(files.folder) if paths is None else paths:
                yield from files.row_groups(path, columns)

    def latest(self, name: TableName, column: str) -> datetime | None:
        """Return the latest time in a column of a table's latest version; None without rows."""
        files = self.files(name)
        with self._using(name):
            found = [files.latest(path, column) for path in live_paths(files.folder)]
        return max((time for time in found if time is not None), default=None)

    def read_since(self, name: TableName, after: int) -> tuple[pa.Table, int]:
        """Return the rows appended after a version, in commit order, and the version reached.

        Rewriting files (compaction) appends nothing. `after` = -1 reads from the beginning. Where
        retention deleted the files that were appended, the beginning is read from those that they
        were merged into, in the order of arrival, and VersionGone is raised for any other start.
        """
        files = self.files(name)
        with self._using(name):
            reached = self.version(name)
            paths = self._appended(name, after, reached)
            if paths is not None:
                parts = [files.schema.empty_table(), *map(files.read, paths)]
                return pa.concat_tables(parts), max(after, reached)
        if after >= 0:
            raise VersionGone(
                f"table {name}: files appended after version {after} are gone, merged with older "
                "ones; read from the beginning"
            )
        return self.read(name, reached).sort_by(ARRIVAL[name]), reached

    def grew_since(self, name: TableName, version: int, before: int | None = None) -> bool:
        """Tell whether rows were appended after a version, and before another if it is given."""
        reached = self.version(name) if before is None else before - 1
        with self._using(name):
            return self._appended(name, version, reached) != []

    def compact(
        self, name: TableName, small_bytes: int = SMALL_BYTES, max_small_files: int = 1
    ) -> int:
        """Merge small files where there are more than some, and return the version reached.

        Versions that are pinned stay readable, since no file is deleted. Others append meanwhile.
        """
        with self._using(name):
            compact_files(self.files(name), small_bytes, max_small_files)
            return self.version(name)

    def complete(
        self, name: TableName, rows: pa.Table, at: datetime, source: str | pa.ChunkedArray
    ) -> pa.Table:
        """Add what a table has beyond validated rows: when they arrived, from where, when asked."""
        schema, arrival = self.schema(name), ARRIVAL[name]
        if isinstance(source, str):
            source = pa.repeat(pa.scalar(source), rows.num_rows)
        rows = rows.append_column("source", source)
        rows = rows.append_column(arrival, pa.repeat(pa.scalar(at, TIMESTAMP), rows.num_rows))
        if name == "events":
            lead = pa.scalar(self.contract.lead, pa.duration("us"))
            times = pc.subtract(rows[self.contract.event_time], lead)
            rows = rows.append_column("prediction_time", times)
        rows = with_nulls(rows, schema, self._later[name])
        return cast_rows(rows.select(schema.names), schema)

    @contextlib.contextmanager
    def _using(self, name: TableName) -> Iterator[None]:
        """Use a table's files together with others, none of which is being replaced."""
        folder = self.folder(name)
        if not folder.is_dir():
            yield
            return
        while True:
            with shared(folder):
                if not is_interrupted(folder):
                    yield
                    return
            # A replacement ended half-way: until it is whole, versions are not.
            with exclusive(folder):
                finish_replacement(folder)

    def _appended(self, name: TableName, after: int, reached: int) -> list[str] | None:
        """Name the files that were appended between versions; None when one of them is gone."""
        folder, versions = self.folder(name), range(after + 1, reached + 1)
        paths = [path_of(add) for version in versions for add in added(folder, version)]
        return paths if all((folder / path).exists() for path in paths) else None

    def _append(
        self,
        name: TableName,
        parts: Callable[[], Iterable[pa.Table]],
        given: list[tuple[str, int]],
        marks: Sequence[tuple[str, int]],
    ) -> int | None:
        files = self.files(name)
        there = open_table(files.folder)
        if there is not None and given and all(is_in(there, each) for each in given):
            return None
        # Others commit while this is written.
        written = self._write(name, files, parts())
        with committing(files.folder):
            for _ in range(COMMIT_ATTEMPTS):
                there = open_or_create(files.folder, files.schema, ARRIVAL[name], there)
                if given and all(is_in(there, transaction) for transaction in given):
                    files.discard(written)
                    return None
                if not add_columns(there, files.schema, self._later[name]):
                    continue
                version = commit(there, written, [*given, *marks])
                if version is not None:
                    return version
        files.discard(written)
        raise CommitFailedError(
            f"{files.folder}: {COMMIT_ATTEMPTS} times somebody else committed first; try again"
        )

    def _write(
        self, name: TableName, files: DataFiles, parts: Iterable[pa.Table]
    ) -> list[DataFile]:
        """Write rows to a new file, synced; none when there are no rows."""
        filled = (self._fit(name, part) for part in parts if part.num_rows)
        first = next(filled, None)
        if first is None:
            return []
        written = [files.write(itertools.chain([first], filled))]
        sync(files.folder)
        return written

    def _fit(self, name: TableName, rows: pa.Table) -> pa.Table:
        schema = self.schema(name)
        rows = with_nulls(rows, schema, self._later[name])
        if set(rows.column_names) != set(schema.names):
            difference = sorted(set(rows.column_names) ^ set(schema.names))
            raise ValueError(
                f"table {name}: columns {', '.join(difference)} are missing or unknown"
            )
        return cast_rows(rows.select(schema.names), schema)


def _as_list(transaction: Any) -> list[tuple[str, int]]:
    given = list(transaction or ())
    return [(given[0], given[1])] if given and isinstance(given[0], str) else given


def open_tables(config: Config) -> Tables:
    """Open a model's tables, sealed as its configuration says."""
    return Tables(config.tables_path, config.contract, open_sealing(config))

"""Keep rows in Delta tables below one folder: events, quarantine, predictions, labels.

Knows Delta and the contract; knows nothing of Ray, requests or decisions. Tables only grow: a
commit may carry an application transaction, so that the same batch is never in twice. Readers drop
repeats: events by the contract's id, predictions by idempotency key, labels by their latest
revision.
"""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from app.contracts.rows import TIMESTAMP, Contract
from app.data.datafiles import read_data_file
from app.data.delta_log import added, latest_version, path_of
from app.data.locks import exclusive, shared
from app.data.replacement import finish_replacement, is_interrupted
from app.data.schemas import ARRIVAL, cast_rows, table_schemas
from app.data.schemas import NAMES as NAMES
from app.data.schemas import TableName as TableName

COMMIT_ATTEMPTS = 20


class Tables:
    """The tables of one model. Cheap to make; safe to use from several threads and processes."""

    def __init__(self, root: Path, contract: Contract) -> None:
        """Name the folder; it is created by the first append."""
        self.root = root
        self.contract = contract
        self._schemas = table_schemas(contract)

    def schema(self, name: TableName) -> pa.Schema:
        """Return the Arrow schema of a table."""
        return self._schemas[name]

    def folder(self, name: TableName) -> Path:
        """Return the folder of a table's files and log."""
        return self.root / name

    def version(self, name: TableName) -> int:
        """Return the latest version of a table, -1 when it does not exist. Cheap: made to poll."""
        return latest_version(self.folder(name))

    def transaction(self, name: TableName, application: str) -> int | None:
        """Return an application's latest transaction number in a table, None if it has none."""
        with self._using(name):
            table = self._open(name)
            return None if table is None else table.transaction_version(application)

    def append(
        self,
        name: TableName,
        rows: pa.Table,
        transaction: tuple[str, int] | Sequence[tuple[str, int]] | None = None,
    ) -> int | None:
        """Append rows in one commit and return the new version.

        Transactions are (application, number), numbers rising; returns None, and writes nothing,
        when all of them are already in. Raises ValueError when the rows do not fit the table's
        schema.
        """
        given = _as_list(transaction)
        rows = self._fit(name, rows)
        self.folder(name).mkdir(parents=True, exist_ok=True)
        with self._using(name):
            return self._append(name, rows, given)

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
        wanted = self._wanted(name, columns)
        expression = pq.filters_to_expression(filters) if isinstance(filters, list) else filters
        with self._using(name):
            table = self._open(name, version)
            if table is None:
                return wanted.empty_table()
            dataset = table.to_pyarrow_dataset()
            return cast_rows(dataset.to_table(columns=wanted.names, filter=expression), wanted)

    def read_since(self, name: TableName, after: int) -> tuple[pa.Table, int]:
        """Return the rows appended after a version, in commit order, and the version reached.

        Rewriting files (compaction) appends nothing. `after` = -1 reads from the beginning.
        """
        schema, folder = self.schema(name), self.folder(name)
        with self._using(name):
            reached = self.version(name)
            parts = [
                read_data_file(folder / path_of(add), schema)
                for version in range(after + 1, reached + 1)
                for add in added(folder, version)
            ]
        return (pa.concat_tables(parts) if parts else schema.empty_table()), max(after, reached)

    def compact(self, name: TableName) -> int:
        """Merge small files; versions that are pinned stay readable, since no file is deleted."""
        with self._using(name):
            table = self._open(name)
            if table is None:
                return -1
            table.optimize.compact()
            return table.version()

    def event_rows(self, accepted: pa.Table, at: datetime, source: str) -> pa.Table:
        """Complete accepted rows (contract columns) to rows of the events table."""
        return self.complete("events", accepted, at, source)

    def quarantine_rows(self, quarantined: pa.Table, at: datetime, source: str) -> pa.Table:
        """Complete quarantined rows to rows of the quarantine table."""
        return self.complete("quarantine", quarantined, at, source)

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

    def _append(self, name: TableName, rows: pa.Table, given: list[tuple[str, int]]) -> int | None:
        commit = CommitProperties(app_transactions=[Transaction(*pair) for pair in given])
        for attempt in range(COMMIT_ATTEMPTS):
            table = self._open(name) or self._create(name)
            if given and all(_is_in(table, pair) for pair in given):
                return None
            try:
                write_deltalake(table, rows, mode="append", commit_properties=commit)
            except CommitFailedError:
                # Another writer committed one of these transactions, or wrote faster: look again.
                if attempt == COMMIT_ATTEMPTS - 1:
                    raise
                continue
            return table.version()
        raise AssertionError("the loop returns or raises")

    def _open(self, name: TableName, version: int | None = None) -> DeltaTable | None:
        try:
            return DeltaTable(self.folder(name), version=version)
        except TableNotFoundError:
            return None

    def _create(self, name: TableName) -> DeltaTable:
        """Create a table; when another process was faster, open its table."""
        configuration = {
            # A value in a commit's minimum or maximum could not be erased: only times are there.
            "delta.dataSkippingStatsColumns": ARRIVAL[name],
            # A snapshot pins a version; the log of old versions must outlive every model.
            "delta.logRetentionDuration": "interval 36500 days",
        }
        try:
            return DeltaTable.create(
                self.folder(name), self.schema(name), mode="error", configuration=configuration
            )
        except (DeltaError, CommitFailedError):  # A race, if the table is there now.
            table = self._open(name)
            if table is None:
                raise
            return table

    def _wanted(self, name: TableName, columns: Sequence[str] | None) -> pa.Schema:
        schema = self.schema(name)
        return (
            schema if columns is None else pa.schema([schema.field(column) for column in columns])
        )

    def _fit(self, name: TableName, rows: pa.Table) -> pa.Table:
        schema = self.schema(name)
        if set(rows.column_names) != set(schema.names):
            difference = sorted(set(rows.column_names) ^ set(schema.names))
            raise ValueError(
                f"table {name}: columns {', '.join(difference)} are missing or unknown"
            )
        return cast_rows(rows.select(schema.names), schema)


def _as_list(transaction: Any) -> list[tuple[str, int]]:
    if transaction is None:
        return []
    if isinstance(transaction, tuple) and transaction and isinstance(transaction[0], str):
        return [(transaction[0], transaction[1])]
    return list(transaction)


def _is_in(table: DeltaTable, transaction: tuple[str, int]) -> bool:
    latest = table.transaction_version(transaction[0])
    return latest is not None and latest >= transaction[1]

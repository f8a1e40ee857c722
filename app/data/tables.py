"""Keep rows in Delta tables below one folder: events, quarantine, predictions, labels.

Knows Delta and the contract; knows nothing of Ray, requests or decisions. Tables only grow: a
commit may carry an application transaction, so that the same batch is never in twice. Readers drop
repeats: events by the contract's id, predictions by idempotency key, labels by their latest
revision.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from app.contracts.rows import TIMESTAMP, Contract

TableName = Literal["events", "quarantine", "predictions", "labels"]
NAMES: tuple[TableName, ...] = ("events", "quarantine", "predictions", "labels")
COMMIT_ATTEMPTS = 20
COMMIT = re.compile(r"\d{20}\.json")
ARRIVAL: dict[TableName, str] = {
    "events": "ingested_at",
    "quarantine": "ingested_at",
    "predictions": "served_at",
    "labels": "received_at",
}


class Tables:
    """The tables of one model. Cheap to make; safe to use from several threads and processes."""

    def __init__(self, root: Path, contract: Contract) -> None:
        """Name the folder; it is created by the first append."""
        self.root = root
        self.contract = contract
        self._schemas = _schemas(contract)

    def schema(self, name: TableName) -> pa.Schema:
        """Return the Arrow schema of a table."""
        return self._schemas[name]

    def version(self, name: TableName) -> int:
        """Return the latest version of a table, -1 when it does not exist. Cheap: made to poll."""
        log = self._path(name) / "_delta_log"
        try:
            names = [entry.name for entry in log.iterdir() if COMMIT.fullmatch(entry.name)]
        except FileNotFoundError:
            return -1
        return max((int(name[:20]) for name in names), default=-1)

    def transaction(self, name: TableName, application: str) -> int | None:
        """Return an application's latest transaction number in a table, None if it has none."""
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
        commit = CommitProperties(app_transactions=[Transaction(*pair) for pair in given])
        for attempt in range(COMMIT_ATTEMPTS):
            table = self._open(name) or self._create(name)
            if given and all(_is_in(table, pair) for pair in given):
                return None
            try:
                self._write(table, rows, commit)
            except CommitFailedError:
                # Another writer committed one of these transactions, or wrote faster: look again.
                if attempt == COMMIT_ATTEMPTS - 1:
                    raise
                continue
            return table.version()
        raise AssertionError("the loop returns or raises")

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
        table = self._open(name, version)
        if table is None:
            return wanted.empty_table()
        expression = pq.filters_to_expression(filters) if isinstance(filters, list) else filters
        dataset = table.to_pyarrow_dataset()
        # A table may be older than a window, and then has no column for it yet.
        present = [name for name in wanted.names if name in dataset.schema.names]
        rows = dataset.to_table(columns=present, filter=expression)
        return _cast(self._with_derived(rows, wanted), wanted)

    def read_since(self, name: TableName, after: int) -> tuple[pa.Table, int]:
        """Return the rows appended after a version, in commit order, and the version reached.

        Rewriting files (compaction) appends nothing. `after` = -1 reads from the beginning.
        """
        schema = self.schema(name)
        reached = self.version(name)
        parts = [
            _cast(self._with_derived(pq.ParquetFile(path).read(), schema), schema)
            for version in range(after + 1, reached + 1)
            for path in self._added_files(name, version)
        ]
        return (pa.concat_tables(parts) if parts else schema.empty_table()), max(after, reached)

    def compact(self, name: TableName) -> int:
        """Merge small files; versions that are pinned stay readable, since no file is deleted."""
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
        return _cast(self._with_derived(rows, schema), schema)

    def _path(self, name: TableName) -> Path:
        return self.root / name

    def _open(self, name: TableName, version: int | None = None) -> DeltaTable | None:
        try:
            return DeltaTable(self._path(name), version=version)
        except TableNotFoundError:
            return None

    def _create(self, name: TableName) -> DeltaTable:
        """Create a table; when another process was faster, open its table."""
        self._path(name).mkdir(parents=True, exist_ok=True)
        configuration = {
            # A value in a commit's minimum or maximum could not be erased: only times are there.
            "delta.dataSkippingStatsColumns": ARRIVAL[name],
            # A snapshot pins a version; the log of old versions must outlive every model.
            "delta.logRetentionDuration": "interval 36500 days",
        }
        try:
            return DeltaTable.create(
                self._path(name), self.schema(name), mode="error", configuration=configuration
            )
        except (DeltaError, CommitFailedError):  # A race, if the table is there now.
            table = self._open(name)
            if table is None:
                raise
            return table

    def _write(self, table: DeltaTable, rows: pa.Table, commit: CommitProperties) -> None:
        """Append; a table older than a window gets its column, one of a former window keeps it."""
        held, given = {field.name for field in table.schema().fields}, set(rows.column_names)
        derived = {column.name for column in self.contract.derived}
        is_wider = held != given and given - held <= derived
        mode: Literal["merge"] | None = "merge" if is_wider else None
        write_deltalake(table, rows, mode="append", commit_properties=commit, schema_mode=mode)

    def _with_derived(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        """Bring rows to the columns of a schema, whatever windows were declared once."""
        return self._with_nulls(rows, schema).select(schema.names)

    def _with_nulls(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        """Give rows without a value for a window nulls."""
        for column in self.contract.derived:
            if column.name in schema.names and column.name not in rows.column_names:
                rows = rows.append_column(column.name, pa.nulls(rows.num_rows, pa.float64()))
        return rows

    def _added_files(self, name: TableName, version: int) -> list[Path]:
        log = self._path(name) / "_delta_log" / f"{version:020d}.json"
        actions = [json.loads(line) for line in log.read_text().splitlines() if line]
        added = [action["add"] for action in actions if "add" in action]
        return [self._path(name) / item["path"] for item in added if item["dataChange"]]

    def _wanted(self, name: TableName, columns: Sequence[str] | None) -> pa.Schema:
        schema = self.schema(name)
        return (
            schema if columns is None else pa.schema([schema.field(column) for column in columns])
        )

    def _fit(self, name: TableName, rows: pa.Table) -> pa.Table:
        schema = self.schema(name)
        rows = self._with_nulls(rows, schema)
        if set(rows.column_names) != set(schema.names):
            difference = sorted(set(rows.column_names) ^ set(schema.names))
            raise ValueError(
                f"table {name}: columns {', '.join(difference)} are missing or unknown"
            )
        return _cast(rows.select(schema.names), schema)


def _schemas(contract: Contract) -> dict[str, pa.Schema]:
    """Build the schema of every table."""

    def fields(*given: tuple[str, pa.DataType], nullable: bool = False) -> list[pa.Field]:
        return [pa.field(name, kind, nullable=nullable) for name, kind in given]

    text, real, moment = pa.string(), pa.float64(), TIMESTAMP
    arrival = fields(("source", text), ("ingested_at", moment))
    return {
        "events": pa.schema(
            [*contract.complete_schema, *fields(("prediction_time", moment)), *arrival]
        ),
        "quarantine": pa.schema(
            [
                *fields(("row", text), ("reasons", pa.list_(text)), ("position", pa.int64())),
                *arrival,
            ]
        ),
        "predictions": pa.schema(
            [
                *fields(("prediction_id", text), ("idempotency_key", text), ("row_id", text)),
                *fields(("entity", text), nullable=True),
                *fields(("version", text), ("generation", pa.int64()), ("arm", text)),
                *fields(("propensity", real), ("probability", real)),
                *fields(("prediction_time", moment), ("served_at", moment), ("replica", text)),
            ]
        ),
        "labels": pa.schema(
            [
                *fields(("row_id", text)),
                *fields(("label", pa.int8()), nullable=True),
                *fields(("void", pa.bool_()), ("known_at", moment), ("received_at", moment)),
                *fields(("source", text)),
            ]
        ),
    }


def _as_list(transaction: Any) -> list[tuple[str, int]]:
    if transaction is None:
        return []
    if isinstance(transaction, tuple) and transaction and isinstance(transaction[0], str):
        return [(transaction[0], transaction[1])]
    return list(transaction)


def _is_in(table: DeltaTable, transaction: tuple[str, int]) -> bool:
    latest = table.transaction_version(transaction[0])
    return latest is not None and latest >= transaction[1]


def _cast(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring rows to a schema; Delta names list items and string types in its own way."""
    if rows.schema.equals(schema):
        return rows
    try:
        return rows.cast(schema)
    except pa.ArrowInvalid as error:
        raise ValueError(f"rows do not fit the table: {error}") from error

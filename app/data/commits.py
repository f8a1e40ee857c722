"""Commit data files to a Delta table.

Knows the Delta library; knows nothing of rows or of what is in a file. A commit is made on the
version that was looked at or not at all, so that the version it became is known.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from app.data.datafiles import DataFile
from app.data.schemas import refuse_other_numbers


class LiveFile(NamedTuple):
    """A file of a version."""

    path: str
    size: int
    num_rows: int


def live_files(table: DeltaTable) -> list[LiveFile]:
    """List the files of the version that a table is at, oldest first."""
    adds = pa.table(table.get_add_actions(flatten=True))
    adds = adds.sort_by([("modification_time", "ascending"), ("path", "ascending")])
    columns = (adds[name].to_pylist() for name in ("path", "size_bytes", "num_records"))
    return [LiveFile(*values) for values in zip(*columns, strict=True)]


def live_paths(folder: Path) -> list[str]:
    """Name the files of a table's latest version, oldest first; none when there is no table."""
    table = open_table(folder)
    return [] if table is None else [file.path for file in live_files(table)]


def open_table(folder: Path, version: int | None = None) -> DeltaTable | None:
    """Open a table at a version, by default the latest; None when there is no table."""
    try:
        return DeltaTable(folder, version=version)
    except TableNotFoundError:
        return None


def open_or_create(
    folder: Path, schema: pa.Schema, arrival: str, opened: DeltaTable | None = None
) -> DeltaTable:
    """Open a table; create it when there is none, whose statistics are of one column only.

    One that was `opened` before is brought to its latest version, for a tenth of the time. Raises
    ValueError for one that holds numbers as other types.
    """
    if opened is not None:
        opened.update_incremental()
    table = opened or open_table(folder)
    if table is not None:
        refuse_other_numbers(pa.schema(table.schema().to_arrow()), schema, folder)
        return table
    configuration = {
        # A value in a commit's minimum or maximum could not be erased: only times are there.
        "delta.dataSkippingStatsColumns": arrival,
        # A snapshot pins a version; the log of old versions must outlive every model.
        "delta.logRetentionDuration": "interval 36500 days",
    }
    try:
        return DeltaTable.create(folder, schema, mode="error", configuration=configuration)
    except (DeltaError, CommitFailedError):  # A race, if the table is there now.
        table = open_table(folder)
        if table is None:
            raise
        return table


def add_columns(table: DeltaTable, schema: pa.Schema, names: Sequence[str]) -> bool:
    """Add those of some columns that a table lacks, in a commit without rows, for rows to come.

    Its older files have nulls there; a column that nobody names any more stays. Returns False when
    somebody committed since: open the table again and decide anew.
    """
    held = {field.name for field in table.schema().fields}
    lacking = [schema.field(name) for name in names if name not in held]
    if not lacking:
        return True
    fields = list(Schema.from_arrow(pa.schema(lacking)).fields)
    try:
        table.alter.add_columns(fields, commit_properties=CommitProperties(max_commit_retries=0))
    except CommitFailedError:
        return False
    return True


def commit(
    table: DeltaTable,
    added: Sequence[DataFile],
    transactions: Sequence[tuple[str, int]] = (),
    *,
    instead_of: Sequence[LiveFile] = (),
) -> int | None:
    """Commit files as the version after the one that `table` is at, and return that.

    Files with rows are new rows, unless they stand `instead_of` others with the same rows. Returns
    None when somebody committed since: open the table again and decide anew.
    """
    is_new = not instead_of
    actions: list[AddAction | RemoveAction] = [
        AddAction(file.path, file.size, {}, file.modified_ms, is_new, file.stats) for file in added
    ]
    replaced_at = max((file.modified_ms for file in added), default=0)
    actions += [RemoveAction(file.path, is_new, replaced_at, file.size, {}) for file in instead_of]
    properties = CommitProperties(
        max_commit_retries=0,
        app_transactions=[Transaction(*transaction) for transaction in transactions],
    )
    version: int = table.version()
    try:
        table.create_write_transaction(
            actions, "append", table.schema(), commit_properties=properties
        )
    except CommitFailedError:
        return None
    return version + 1


def is_in(table: DeltaTable, transaction: tuple[str, int]) -> bool:
    """Say whether an application's transaction, or a later one, is in a table."""
    latest = table.transaction_version(transaction[0])
    return latest is not None and latest >= transaction[1]

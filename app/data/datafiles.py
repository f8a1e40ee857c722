"""Write and read the data files of one Delta table.

Knows Parquet, seals, and what Delta's log says of a file; knows nothing of commits or of what rows
mean. Delta's log gets statistics of the time of arrival only, a footer those of public columns: a
person's value must stand in neither.
"""

import itertools
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from app.contracts.rows import Frozen
from app.data.cells import is_text
from app.data.schemas import cast_rows, refuse_other_numbers, with_nulls
from app.data.sealing import Sealing, explained, key_of, leaf_of
from app.security.secrets import SecretError

COMPRESSION = "zstd"
SAMPLE_ROWS = 1000
MILLISECOND = timedelta(milliseconds=1)


class DataFile(Frozen):
    """A data file as the log names it; `stats` is JSON text."""

    path: str
    size: int
    num_rows: int
    modified_ms: int
    stats: str


class DataFiles:
    """The data files of one table: their columns, which are private, how they are sealed."""

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        arrival: str,
        private: Sequence[str],
        sealing: Sealing,
        later: Sequence[str] = (),
    ) -> None:
        """Name the table's folder, and the column of which the log gets statistics.

        `later` are the columns that older files lack: such files are read with nulls there.
        """
        self.folder = folder
        self.schema = schema
        self.sealing = sealing
        self._arrival = arrival
        self._later = tuple(later)
        self._private = tuple(private)
        public = [field for field in schema if field.name not in private]
        # Public columns come first in a file: Arrow (up to 25) looks at as many columns from the
        # first on as were asked for, and fails on a sealed one although it is not wanted.
        self._layout = pa.schema([*public, *(schema.field(name) for name in private)])
        self._with_statistics = [f.name for f in public if not pa.types.is_nested(f.type)]

    def current_key(self) -> str | None:
        """Return the id of the master key of a file that is written now; None for a plain one."""
        return self.sealing.current_key() if self._private else None

    def write(self, parts: Iterable[pa.Table]) -> DataFile:
        """Write parts as row groups of a new file, synced; nothing names it yet."""
        key_id = self.current_key()
        suffix = f".sealed-{key_id}.parquet" if key_id else ".parquet"
        path = self.folder / f"part-{uuid.uuid4().hex}{suffix}"
        num_rows, bounds = 0, []
        given = iter(parts)
        first = next(given, self.schema.empty_table())
        with path.open("xb") as output:
            with self._writer(output, key_id, first) as writer:
                for part in itertools.chain([first], given):
                    writer.write_table(part.select(self._layout.names))
                    num_rows += part.num_rows
                    bounds.append(pc.min_max(part[self._arrival]).as_py())
            output.flush()
            os.fsync(output.fileno())
        status = path.stat()
        return DataFile(
            path=path.name,
            size=status.st_size,
            num_rows=num_rows,
            modified_ms=status.st_mtime_ns // 10**6,
            stats=json.dumps(_stats(num_rows, bounds, self._arrival), separators=(",", ":")),
        )

    def discard(self, written: Iterable[DataFile]) -> None:
        """Delete files that nothing names."""
        for file in written:
            (self.folder / file.path).unlink()

    def read(self, path: str) -> pa.Table:
        """Read a whole file in the table's schema.

        Raises SecretError without the key of a sealed file, SealBroken for an altered one.
        """
        parts = list(self.row_groups(path))
        return pa.concat_tables(parts) if parts else self.schema.empty_table()

    def row_groups(self, path: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Read a file, or some columns of it, one row group at a time: memory stays flat."""
        names = list(self.schema.names if columns is None else columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        decryption = self.sealing.to_read() if key_of(path) else None
        with (
            explained(str(self.folder), self._private),
            pq.ParquetFile(self.folder / path, decryption_properties=decryption) as opened,
        ):
            for number in range(opened.num_row_groups):
                rows = opened.read_row_group(number, columns=None if columns is None else names)
                yield self._shaped(rows, schema)

    def latest(self, path: str, column: str) -> datetime | None:
        """Return the latest time in a column of a file: from its footer, if it stands there."""
        if column in self._with_statistics:
            with pq.ParquetFile(self.folder / path) as opened:
                footer = opened.metadata
            place = footer.schema.names.index(column)
            groups = (footer.row_group(i).column(place) for i in range(footer.num_row_groups))
            found = [group.statistics for group in groups if group.num_values]
            if all(each is not None and each.has_min_max for each in found):
                return max((each.max for each in found), default=None)
        read = (pc.max(part[column]).as_py() for part in self.row_groups(path, [column]))
        return max((time for time in read if time is not None), default=None)

    def scan(self, table: DeltaTable, columns: Sequence[str], expression: Any) -> pa.Table:
        """Read columns of the rows of a version that an Arrow expression (or None) takes.

        The expression names no column that the version may lack. Keys are needed only where a
        sealed column is read. Raises as `read` does.
        """
        wanted = pa.schema([self.schema.field(name) for name in columns])

        def scanned(sealing: Sealing) -> pa.Table:
            # A dataset of its own each time: it keeps footers as it could first read them.
            dataset = table.to_pyarrow_dataset()
            with explained(str(self.folder), self._private):
                held = set(dataset.schema.names)
                rows = dataset.to_table(
                    columns=[name for name in columns if name in held or name not in self._later],
                    filter=expression,
                    fragment_scan_options=sealing.to_scan(),
                )
                return self._shaped(rows, wanted)

        asked = {*columns, *(name for name in self._private if name in str(expression))}
        if asked & set(self._private):
            return scanned(self.sealing)
        try:
            return scanned(Sealing())
        except SecretError:  # Sealed when the contract still called one of them private.
            return scanned(self.sealing)

    def _shaped(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        refuse_other_numbers(rows.schema, schema, self.folder)
        rows = with_nulls(rows, schema, self._later)
        return cast_rows(rows.select(schema.names), schema)

    def _writer(self, output: Any, key_id: str | None, first: pa.Table) -> pq.ParquetWriter:
        seal = self.sealing.to_write(key_id, self.schema, self._private) if key_id else None
        return pq.ParquetWriter(
            output,
            self._layout,
            compression=COMPRESSION,
            # Tried on numbers and ids, a dictionary costs more than all the rest and saves nothing.
            use_dictionary=[leaf_of(first.schema.field(name)) for name in _repetitive(first)],
            write_statistics=self._with_statistics,
            encryption_properties=seal,
        )


def _repetitive(rows: pa.Table) -> list[str]:
    """Name the columns of text that say the same again and again, by their first rows."""
    return [
        name
        for name, column in zip(rows.column_names, rows.columns, strict=True)
        if _repeats(column[:SAMPLE_ROWS])
    ]


def _repeats(sample: pa.ChunkedArray) -> bool:
    if pa.types.is_list(sample.type):
        return is_text(sample.type.value_type)
    return is_text(sample.type) and pc.count_distinct(sample).as_py() <= len(sample) / 2


def _stats(
    num_rows: int, bounds: list[dict[str, datetime | None]], arrival: str
) -> dict[str, object]:
    earliest = [bound["min"] for bound in bounds if bound["min"] is not None]
    latest = [bound["max"] for bound in bounds if bound["max"] is not None]
    if not earliest:
        return {"numRecords": num_rows}
    # Delta has milliseconds: a bound is rounded away from the values that it holds.
    return {
        "numRecords": num_rows,
        "minValues": {arrival: _milliseconds(min(earliest))},
        "maxValues": {arrival: _milliseconds(max(latest) + MILLISECOND)},
        "nullCount": {arrival: 0},
    }


def _milliseconds(time: datetime) -> str:
    text = time.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")

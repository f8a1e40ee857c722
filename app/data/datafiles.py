"""Write and read the data files of a Delta table.

Knows Parquet and what Delta's log says of a file; knows nothing of commits or of what rows mean.
Statistics cover only the time of arrival: a person's value must not stand in a footer or a log.
"""

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.contracts.rows import Frozen
from app.data.schemas import cast_rows

COMPRESSION = "zstd"
MILLISECOND = timedelta(milliseconds=1)


class DataFile(Frozen):
    """A data file as the log names it; `stats` is JSON text."""

    path: str
    size: int
    num_rows: int
    stats: str


def write_data_file(
    table: Path, parts: Iterable[pa.Table], schema: pa.Schema, arrival: str
) -> DataFile:
    """Write parts as row groups of a new file, synced, and say of it what Delta's log asks for.

    `arrival` is the column of which statistics are kept. Nothing names the file yet.
    """
    name = f"part-{uuid.uuid4().hex}.parquet"
    num_rows, bounds = 0, []
    with (table / name).open("xb") as output:
        with pq.ParquetWriter(
            output, schema, compression=COMPRESSION, write_statistics=[arrival]
        ) as writer:
            for part in parts:
                writer.write_table(part)
                num_rows += part.num_rows
                bounds.append(pc.min_max(part[arrival]).as_py())
        output.flush()
        os.fsync(output.fileno())
    stats = json.dumps(_stats(num_rows, bounds, arrival), separators=(",", ":"))
    size = (table / name).stat().st_size
    return DataFile(path=name, size=size, num_rows=num_rows, stats=stats)


def read_data_file(file: Path, schema: pa.Schema) -> pa.Table:
    """Read a whole data file in a schema."""
    return cast_rows(pq.ParquetFile(file).read(), schema)


def read_row_groups(file: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """Read a data file one row group at a time, so that memory stays flat."""
    with pq.ParquetFile(file) as opened:
        for number in range(opened.num_row_groups):
            yield cast_rows(opened.read_row_group(number), schema)


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

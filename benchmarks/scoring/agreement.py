"""Hold what two contenders wrote against each other: every row once, the same figure of each."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

AT_MOST = 1e-6
COLUMNS = ["order_id", "probability"]


class Disagreement(ValueError):
    """Contenders that did not do the same work."""


def check(ours: Path, peer: Path, num_rows: int) -> float:
    """Compare two folders and return the largest difference of a row.

    Raises Disagreement where rows are missing, doubled, or said other things of.
    """
    mine, theirs = (_sorted(folder) for folder in (ours, peer))
    for name, table in (("ours", mine), ("peer", theirs)):
        if table.num_rows != num_rows:
            raise Disagreement(f"{name}: {table.num_rows:,} rows instead of {num_rows:,}")
    if not mine["order_id"].equals(theirs["order_id"]):
        raise Disagreement("order_id: they did not score the same rows, each once")
    apart = np.abs(mine["probability"].to_numpy() - theirs["probability"].to_numpy())
    if not apart.max() <= AT_MOST:
        raise Disagreement(f"probability: {apart.max():.1e} apart, more than {AT_MOST}")
    return float(apart.max())


def _sorted(folder: Path) -> pa.Table:
    files = [path for path in sorted(folder.glob("*.parquet")) if not path.name.startswith("_")]
    tables = []
    for file in files:
        opened = pq.ParquetFile(file)
        # Ours calls the id of any model's row the same.
        names = [name for name in opened.schema_arrow.names if name in {"row_id", *COLUMNS}]
        tables.append(opened.read(columns=names).rename_columns(COLUMNS))
    if not tables:
        raise Disagreement(f"{folder}: no file")
    return pa.concat_tables(tables).combine_chunks().sort_by("order_id")

"""Tell first from repeated rows, and old from new ones, in Arrow tables.

Knows keys; knows nothing of what a row is.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def first(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Keep the first row of every key, in the order of the table; null is a value like others.

    >>> first(pa.table({"k": ["a", "b", "a"], "v": [1, 2, 3]}), ["k"])["v"].to_pylist()
    [1, 2]
    """
    if table.num_rows < 2:
        return table
    numbered = table.select(list(keys)).append_column("_at", pa.array(np.arange(table.num_rows)))
    kept = numbered.group_by(list(keys)).aggregate([("_at", "min")])["_at_min"]
    if len(kept) == table.num_rows:
        return table
    return table.take(pa.array(np.sort(kept.to_numpy())))


def absent(table: pa.Table, there: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Keep the rows of a table, one a key already, whose key is not in another table."""
    known = there.select(list(keys))
    # A column that may not be null and one that may are the same key.
    both = pa.concat_tables([known, table.select(list(keys)).cast(known.schema)])
    numbered = both.append_column("_at", pa.array(np.arange(both.num_rows)))
    kept = numbered.group_by(list(keys)).aggregate([("_at", "min")])["_at_min"].to_numpy()
    return table.take(pa.array(np.sort(kept[kept >= there.num_rows]) - there.num_rows))


def num_distinct(table: pa.Table, keys: Sequence[str]) -> int:
    """Count distinct keys."""
    return int(table.select(list(keys)).group_by(list(keys)).aggregate([]).num_rows)


def any_repeated(there: pa.ChunkedArray, fresh: pa.ChunkedArray) -> bool:
    """Say whether a fresh value occurs twice, or is there already. Cheaper than finding which."""
    if len(fresh.unique()) < len(fresh):
        return True
    return bool(pc.any(pc.is_in(fresh, value_set=whole(there))).as_py())


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Join the chunks of a column."""
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)

"""Say how facts and outcomes lie in the online store's SQL tables, and what two sets differ in.

Knows columns and SQL's types; knows nothing of windows, transactions or files.
"""

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.data import presence, running
from app.data.entries import Known
from app.data.facts import REVISIONS


def statements(schema: pa.Schema, slots: Sequence[str]) -> Iterator[str]:
    """Give the statements that create all tables of a store, in SQL."""
    kinds = {pa.string(): "TEXT", pa.float64(): "REAL", pa.int64(): "INTEGER"}
    columns = ", ".join(f'"{field.name}" {kinds[field.type]}' for field in schema)
    yield (
        f'CREATE TABLE IF NOT EXISTS events ({columns}, PRIMARY KEY ("_id", "_time")) WITHOUT ROWID'
    )
    for key in slots:
        yield f'CREATE INDEX IF NOT EXISTS "by_{key}" ON events ("{key}", "_time")'
    columns = ", ".join(f"{name} NOT NULL" for name in REVISIONS.names)
    key = ", ".join(REVISIONS.names)
    yield f"CREATE TABLE IF NOT EXISTS revisions ({columns}, PRIMARY KEY ({key})) WITHOUT ROWID"
    yield running.SCHEMA
    yield presence.SCHEMA


def without(known: Known, named: Mapping[str, Collection[str]], row_ids: Collection[str]) -> Known:
    """Leave out facts with a named value in its column or of some rows, and outcomes with them.

    An outcome goes with its row, and when no fact of its id is left.
    """
    gone = _is_in(known.facts["_id"], row_ids)
    for column, values in named.items():
        if column in known.facts.column_names:
            gone = pc.or_(gone, _is_in(known.facts[column], values))
    facts = known.facts.filter(pc.invert(gone))
    about = known.revisions["row_id"]
    left = pc.and_not(pc.is_in(about, value_set=texts(facts["_id"])), _is_in(about, row_ids))
    return Known(facts, known.revisions.filter(left))


def _is_in(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(sorted(values), pa.string()))


def last_known(
    database: sqlite3.Connection, key: str, entity: str, between: tuple[int, int]
) -> int | None:
    """Give the time of an entity's last event from one moment until before another.

    Only what was known by the later one counts. `key` is the entity's column.
    """
    found = database.execute(
        f'SELECT "_time" FROM events WHERE "{key}" = ? AND "_time" >= ? '
        'AND "_time" < ? AND "_known_from" <= ? ORDER BY "_time" DESC LIMIT 1',
        (entity, *between, between[1]),
    ).fetchone()
    return None if found is None else int(found[0])


def read_table(found: sqlite3.Cursor, schema: pa.Schema) -> pa.Table:
    """Read what a query found, in the order of a schema."""
    rows = found.fetchall()
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(cells, field.type) for cells, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _rows(table: pa.Table) -> set[tuple[object, ...]]:
    return set(zip(*(column.to_pylist() for column in table.columns), strict=True))


def difference(before: pa.Table, after: pa.Table) -> tuple[list[Any], list[Any]]:
    """List the rows that are only in the one, and only in the other."""
    old, new = _rows(before), _rows(after)
    return list(old - new), list(new - old)


def texts(column: pa.ChunkedArray) -> pa.Array:
    """Give a column as one array of texts."""
    return column.combine_chunks().cast(pa.string())

"""Read a table or a query of an SQL database as blocks, with one code for every database.

Knows SQLAlchemy; knows nothing of contracts beyond column names, of Ray or of tables. A database is
asked for rows in the order of one column, as a stream; its URL is a secret and is in no message.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import SecretStr
from sqlalchemy import (
    ColumnClause,
    Connection,
    Engine,
    Select,
    column,
    create_engine,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy import table as sql_table
from sqlalchemy.exc import SQLAlchemyError

from app.contracts.times import micros_of, moment
from app.data.pieces import DEFAULT_LIMITS, Limits, Rows, SourceError, within_limits
from app.data.storage import DIGEST_CHARACTERS
from app.data.stores import first_line
from app.data.text_files import array_of

FETCH_ROWS = 8_192


@dataclass(frozen=True)
class SqlPiece:
    """The rows of a table or query whose cursor lies in (after, until], or all without a cursor.

    Bounds are whole numbers, or microseconds since 1970 for a column of times (`zoned` or not).
    Without a cursor the digest is that of the rows, and they are read as long as they keep it. The
    columns `left_out` are there and are never asked for.
    """

    name: str
    url: SecretStr
    columns: tuple[str, ...]
    order: tuple[str, ...]
    digest: str = ""
    query: str | None = None
    cursor: str | None = None
    after: int | None = None
    until: int | None = None
    clock: str | None = None
    limits: Limits = DEFAULT_LIMITS
    left_out: tuple[str, ...] = ()


def open_engine(url: SecretStr, name: str) -> Engine:
    """Make an engine. Raises SourceError for a URL or driver that cannot be used."""
    try:
        return create_engine(make_url(url.get_secret_value()))
    except (SQLAlchemyError, ImportError) as error:
        raise _failed(name, error) from None


def names_of(piece: SqlPiece) -> list[str]:
    """Ask for the names of all columns that a table or query has."""
    empty = select(text("*")).select_from(_rows_of(piece)).where(text("1 = 0"))
    with _asking(piece) as connection:
        return list(connection.execute(empty).keys())


def highest(piece: SqlPiece) -> tuple[int, str] | None:
    """Return the highest cursor as a number, and its clock: number, zoned or naive.

    None when there are no rows. Raises SourceError for a column that holds something else.
    """
    assert piece.cursor is not None
    highest_one: Any = func.max(column(piece.cursor))
    wanted: Select[Any] = select(highest_one).select_from(_rows_of(piece))
    with _asking(piece) as connection:
        found = connection.execute(wanted).scalar()
    if found is None:
        return None
    if isinstance(found, datetime):
        zoned = found if found.tzinfo else found.replace(tzinfo=UTC)
        return micros_of(zoned), "zoned" if found.tzinfo else "naive"
    if type(found) is int:
        return found, "number"
    raise SourceError(
        f"{piece.name}: source.cursor {piece.cursor} must be a column of whole numbers or times, "
        f"got {type(found).__name__}"
    )


def digest_rows(piece: SqlPiece) -> str:
    """Digest all rows of a piece, holding a few at a time."""
    digest = hashlib.sha256()
    for _, rows in _fetch(piece):
        _add(digest, rows)
    return digest.hexdigest()[:DIGEST_CHARACTERS]


def read_sql(piece: SqlPiece) -> Iterator[Rows]:
    """Read a piece in blocks; positions count the rows in the order of the cursor.

    Raises SourceError when the database cannot be read, or its rows changed meanwhile.
    """
    digest, position = hashlib.sha256(), 0
    for names, rows in _fetch(piece):
        _add(digest, rows)
        # SQLite keeps any type in any cell: mixed ones are judged as text, as with CSV.
        columns = [array_of([row[i] for row in rows]) for i in range(len(names))]
        places = position + np.arange(len(rows), dtype=np.int64)
        position += len(rows)
        table = pa.Table.from_arrays(columns, names=names)
        yield from within_limits(Rows(table, places, [], piece.digest), piece.limits)
    if piece.cursor is None and digest.hexdigest()[:DIGEST_CHARACTERS] != piece.digest:
        raise SourceError(
            f"{piece.name}: its rows changed while they were read; run again, or name a "
            "source.cursor"
        )


def statement_of(piece: SqlPiece) -> Select[Any]:
    """Write the question that a piece asks; each database has its own words for it."""
    wanted: list[ColumnClause[Any]] = [column(name) for name in piece.columns]
    statement = select(*wanted).select_from(_rows_of(piece))
    if piece.cursor is not None:
        cursor: ColumnClause[Any] = column(piece.cursor)
        statement = statement.where(cursor <= _bound(piece, piece.until))
        if piece.after is not None:
            statement = statement.where(cursor > _bound(piece, piece.after))
    return statement.order_by(*(column(name) for name in piece.order))


def _fetch(piece: SqlPiece) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
    statement = statement_of(piece)
    with _asking(piece) as connection:
        options = {"stream_results": True, "max_row_buffer": FETCH_ROWS}
        result = connection.execution_options(**options).execute(statement)
        names = list(result.keys())
        for part in result.partitions(FETCH_ROWS):
            yield names, [tuple(row) for row in part]


def _rows_of(piece: SqlPiece) -> Any:
    """Name the table, `schema.table` too, or put the query in its place."""
    if piece.query is not None:
        return text(f"({piece.query.strip().rstrip(';')}) AS asked")
    schema, _, name = piece.name.rpartition(".")
    return sql_table(name, schema=schema or None)


def _bound(piece: SqlPiece, number: int | None) -> Any:
    if number is None or piece.clock == "number":
        return number
    zoned = moment(number)
    return zoned if piece.clock == "zoned" else zoned.replace(tzinfo=None)


@contextlib.contextmanager
def _asking(piece: SqlPiece) -> Iterator[Connection]:
    """Connect for one question; a database's error becomes one line without the URL."""
    engine = open_engine(piece.url, piece.name)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise _failed(piece.name, error) from None
    finally:
        engine.dispose()


def _failed(name: str, error: Exception) -> SourceError:
    # The text of a driver's error may quote the statement, never the URL; one line of it will do.
    cause = getattr(error, "orig", None) or error
    return SourceError(f"{name}: the database cannot be read ({first_line(cause)})")


def _add(digest: Any, rows: Sequence[tuple[Any, ...]]) -> None:
    for row in rows:
        digest.update(repr(row).encode(errors="backslashreplace"))

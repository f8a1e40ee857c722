"""Open the SQL database of a source: which table or query, at which URL, read from where.

Knows the configuration and where its secret is; knows nothing of formats, Ray or our own tables.
"""

from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from app.data.deliveries import Delivery, Positions
from app.data.files import Layout
from app.data.growing import check_sql, new_rows
from app.data.pieces import SourceError
from app.data.sql_pieces import SqlPiece
from app.sections import SourceConfig
from app.security.secrets import named_secret

LABEL_ORDER = ("row_id", "known_at")


class Asked(NamedTuple):
    """What a database is asked for: a table or a query, by a cursor, in an order."""

    table: str | None
    query: str | None
    cursor: str | None
    order: tuple[str, ...]


def open_database(
    source: SourceConfig, asked: Asked, layout: Layout, positions: Positions
) -> tuple[Delivery, ...]:
    """Find what is new in a table or query; nothing when neither is named.

    Raises SourceError for a database, table or column that cannot be read.
    """
    if asked.table is None and asked.query is None:
        return ()
    if asked.cursor in layout.forbidden:
        raise SourceError(
            f"source.cursor {asked.cursor}: is forbidden, and its values would be remembered; name "
            "another column"
        )
    piece = SqlPiece(
        name=asked.table or "query",
        url=_url(source),
        columns=tuple(layout.wanted),
        order=asked.order if asked.cursor is None else (asked.cursor, *asked.order),
        query=asked.query,
        cursor=asked.cursor,
        limits=layout.limits,
    )
    piece = check_sql(piece, layout.forbidden)
    return tuple(new_rows(piece, source.cursor_lag, positions))


def _url(source: SourceConfig) -> SecretStr:
    given = SecretStr(source.url) if source.url else named_secret(source.url_variable or "")
    try:
        url = make_url(given.get_secret_value())
    except SQLAlchemyError:
        raise SourceError(
            f"{source.url_variable or 'source.url'}: no SQLAlchemy URL, such as "
            "postgresql+psycopg://user@host/database"
        ) from None
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        # A worker runs in another folder.
        path = Path(url.database).expanduser().absolute()
        if not path.is_file():
            raise SourceError(f"{path}: no such SQLite file")
        url = url.set(database=str(path))
    return SecretStr(url.render_as_string(hide_password=False))

"""Open the sink that a person names: a folder of Parquet, a Delta table, a table of a database.

Knows names and environment variables; knows nothing of what is kept.
"""

from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from app.data.growing import is_delta
from app.data.stores import URI
from app.security.secrets import named_secret
from app.serving.deltasink import DeltaSink
from app.serving.sinks import ParquetSink, Sink
from app.serving.sqlsink import SqlSink

SINKS = ("parquet", "delta", "sql")


def open_sink(into: str, kind: str | None = None, url_variable: str | None = None) -> Sink:
    """Open a sink by its place: a folder, a URI, or with kind `sql` the name of a table.

    The database of that table is the one whose SQLAlchemy URL is in an environment variable. A
    folder that holds a Delta table is one; without a kind any other is for Parquet. Raises
    ValueError for a kind that there is not, SecretError for a variable that is not set.
    """
    if kind is not None and kind not in SINKS:
        raise ValueError(f"sink {kind}: is none of {', '.join(SINKS)}")
    if kind == "sql":
        if url_variable is None:
            raise ValueError(
                f"table {into}: name the environment variable that holds its database's URL"
            )
        return SqlSink(into, _database(url_variable))
    # A worker runs in another folder.
    place = into if URI.match(into) else str(Path(into).expanduser().absolute())
    found = is_delta(place)
    if kind == "parquet" and found:
        raise ValueError(f"{into}: holds a Delta table; name another folder, or sink delta")
    return DeltaSink(place) if found or kind == "delta" else ParquetSink(place)


def _database(url_variable: str) -> SecretStr:
    try:
        url = make_url(named_secret(url_variable).get_secret_value())
    except SQLAlchemyError:
        raise ValueError(
            f"{url_variable}: no SQLAlchemy URL, such as postgresql+psycopg://user@host/database"
        ) from None
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        url = url.set(database=str(Path(url.database).expanduser().absolute()))
    return SecretStr(url.render_as_string(hide_password=False))

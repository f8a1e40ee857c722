"""Keep scores in a table of an SQL database: a piece's rows and its name are one transaction.

The name is a primary key of a table beside the scores, written first: whoever comes second with a
piece waits for the first, and adds nothing. Knows SQLAlchemy and tables of scores; knows nothing of
how scores come about, or of Ray. The database's URL is a secret and is in no message.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import orjson
import pyarrow as pa
from pydantic import SecretStr
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from app.data.pieces import SourceError
from app.data.sql_pieces import open_engine
from app.data.stores import first_line
from app.serving.scoring import Counts, count_rows

INSERT_ROWS = 5000
# A writer of SQLite waits for the one before it, which may have a large piece.
WAIT_SECONDS = 600
NAME_CHARACTERS = 200


@dataclass(frozen=True)
class SqlSink:
    """A table of scores; `NAME_pieces` and `NAME_positions` stand beside it."""

    name: str
    url: SecretStr

    @property
    def place(self) -> str:
        """Name the table."""
        return self.name

    def prepare(self, schema: pa.Schema) -> None:
        """Create the tables that are not there."""
        with self._engine() as engine:
            made = self._tables(schema)
            held = inspect(engine)
            if held.has_table(self.name):
                names = [column["name"] for column in held.get_columns(self.name)]
                if names != schema.names:
                    raise SourceError(
                        f"{self.name}: has columns {', '.join(names)} instead of "
                        f"{', '.join(schema.names)}; name another table"
                    )
            made.create_all(engine)

    def found(self, names: Collection[str]) -> dict[str, Counts]:
        """Read the counts of pieces that are in."""
        with self._engine() as engine, engine.connect() as connection:
            if not inspect(connection).has_table(self._pieces.name):
                return {}
            rows = connection.execute(select(self._pieces)).all()
        wanted = set(names)
        return {row.piece: Counts(*row[1:]) for row in rows if row.piece in wanted}

    def write(self, name: str, schema: pa.Schema, blocks: Iterable[pa.Table]) -> Counts:
        """Insert the rows of a piece and its name, or nothing where it is in."""
        with self._engine() as engine:
            try:
                with engine.begin() as connection:
                    connection.execute(
                        insert(self._pieces).values(piece=name, num_scored=0, num_rejected=0)
                    )
                    return self._fill(connection, name, schema, blocks)
            except IntegrityError:
                before = self.found([name]).get(name)
                if before is None:
                    raise
                return before

    def marks(self) -> dict[str, int]:
        """Read what was noted."""
        with self._engine() as engine, engine.connect() as connection:
            if not inspect(connection).has_table(self._positions.name):
                return {}
            return {row.mark: row.number for row in connection.execute(select(self._positions))}

    def note(self, marks: Mapping[str, int]) -> None:
        """Write numbers anew in one transaction."""
        own = self._positions
        with self._engine() as engine, engine.begin() as connection:
            connection.execute(delete(own).where(own.c.mark.in_(list(marks))))
            connection.execute(insert(own), [{"mark": m, "number": n} for m, n in marks.items()])

    def _fill(
        self, connection: Connection, name: str, schema: pa.Schema, blocks: Iterable[pa.Table]
    ) -> Counts:
        scores = self._tables(schema).tables[self.name]
        counts = Counts(0, 0)
        for block in blocks:
            counts = Counts(*map(sum, zip(counts, count_rows(block), strict=True)))
            for first in range(0, block.num_rows, INSERT_ROWS):
                rows = block.slice(first, INSERT_ROWS).to_pylist()
                for row in rows:
                    row["reasons"] = orjson.dumps(row["reasons"]).decode()
                connection.execute(insert(scores), rows)
        own = self._pieces
        connection.execute(own.update().where(own.c.piece == name).values(**counts._asdict()))
        return counts

    def _tables(self, schema: pa.Schema) -> MetaData:
        tables = MetaData()
        kinds = {pa.int64(): BigInteger, pa.float64(): Double}
        Table(
            self.name,
            tables,
            *(Column(f.name, kinds.get(f.type, Text), nullable=f.nullable) for f in schema),
        )
        self._pieces.to_metadata(tables)
        self._positions.to_metadata(tables)
        return tables

    @property
    def _pieces(self) -> Table:
        return Table(
            f"{self.name}_pieces",
            MetaData(),
            Column("piece", String(NAME_CHARACTERS), primary_key=True),
            Column("num_scored", BigInteger, nullable=False),
            Column("num_rejected", BigInteger, nullable=False),
        )

    @property
    def _positions(self) -> Table:
        return Table(
            f"{self.name}_positions",
            MetaData(),
            Column("mark", String(NAME_CHARACTERS), primary_key=True),
            Column("number", BigInteger, nullable=False),
        )

    @contextlib.contextmanager
    def _engine(self) -> Iterator[Engine]:
        engine = open_engine(self._waiting, self.name)
        try:
            yield engine
        except SQLAlchemyError as error:
            # A driver's error may quote the statement, never the URL; one line of it will do.
            cause = getattr(error, "orig", None) or error
            raise SourceError(
                f"{self.name}: scores cannot be kept in the database ({first_line(cause)})"
            ) from None
        finally:
            engine.dispose()

    @property
    def _waiting(self) -> SecretStr:
        url = make_url(self.url.get_secret_value())
        if url.get_backend_name() != "sqlite":
            return self.url
        url = url.update_query_dict({"timeout": str(WAIT_SECONDS)})
        return SecretStr(url.render_as_string(hide_password=False))

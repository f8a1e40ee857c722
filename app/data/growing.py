"""Say what is new in a table that grows: files of a Delta table, rows of an SQL table.

Knows positions and what came after them; knows nothing of contracts beyond column names, of Ray or
of our own tables. A table is read as it grew: a row that was added is brought in once, also when
the source has changed or deleted it since.
"""

import itertools
import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from app.data.deliveries import Delivery, Position, Positions, done_mark, first_mark, key_of
from app.data.files import Layout, check_names, divide_file
from app.data.globs import WILD
from app.data.parquet_files import check_parquet
from app.data.pieces import SourceError
from app.data.sql_pieces import SqlPiece, digest_rows, highest, names_of
from app.data.storage import beside, locate, look_at, open_file
from app.data.stores import delta_place, first_line, shown

# What plain Parquet readers may ignore; anything else changes what the files mean.
HARMLESS_FEATURES = frozenset({"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
MICROS = 1_000_000


def new_files(
    given: str, version: int | None, layout: Layout, positions: Positions
) -> tuple[list[Delivery], tuple[str, int]]:
    """List the data files of a Delta table that were added since its position, each a delivery.

    Returns the mark, too, that says all of them are in. Without a position these are the files of
    the version; files that only rearrange rows (compaction) bring nothing.
    """
    table = _open(given, version)
    reached, key = table.version(), key_of("delta", table.metadata().id)
    layout.check(table.schema().to_arrow().names, shown(given))
    position = positions(key)
    first = reached if position.first is None else position.first
    since = first if position.done is None else position.done
    files: dict[str, dict[str, Any]] = {}
    if position.done is None or since > reached:
        files = _active(table if reached <= first else _open(given, first))
    for later in range(since + 1, reached + 1):
        files |= dict(_added(given, later))
    begun = () if position.first is not None else ((first_mark(key), reached),)
    deliveries = [_delivery(table, given, added, layout) for added in files.items()]
    return [replace(d, marks=begun) for d in deliveries], (done_mark(key), reached)


def new_rows(piece: SqlPiece, lag: float, positions: Positions) -> list[Delivery]:
    """Cut the rows of an SQL table that came since its position: a range of the cursor.

    A range that an earlier ingest began is taken up again as it was. Without a cursor all rows are
    one delivery, named by their digest.
    """
    if piece.cursor is None:
        digest = digest_rows(piece)
        return [Delivery(digest, piece.name, pieces=(replace(piece, digest=digest),))]
    top = highest(piece)
    if top is None:
        return []
    until, clock = top
    until -= round(lag * (1 if clock == "number" else MICROS))
    key = key_of("sql", piece.name, piece.query, piece.cursor)
    position = positions(key)
    bounds = [position.done, *([position.begun] if _ahead(position) else []), until]
    deliveries = []
    for after, upto in itertools.pairwise(bounds):
        if after is not None and upto is not None and upto <= after:
            continue
        digest = key_of(key, after, upto)
        part = replace(piece, digest=digest, after=after, until=upto, clock=clock)
        name = f"{piece.name} ({piece.cursor} over {after} up to {upto})"
        assert upto is not None
        deliveries.append(Delivery(digest, name, pieces=(part,), marks=((done_mark(key), upto),)))
    return deliveries


def check_sql(piece: SqlPiece, forbidden: Collection[str] = ()) -> SqlPiece:
    """Raise SourceError unless a table or query gives the wanted columns; it may have others.

    They are never asked for; those of them that are forbidden are noted in the piece returned.
    """
    names = names_of(piece)
    check_names(names, [*piece.columns, *piece.order], names, piece.name)
    return replace(piece, left_out=tuple(name for name in names if name in forbidden))


def is_delta(given: str) -> bool:
    """Tell whether a folder or prefix holds a Delta table, whose files are not all of a version."""
    if WILD.search(given.partition("://")[2] or given):
        return False
    store, place = locate(beside(given, "_delta_log"))
    try:
        return bool(store.get_file_info(place).type == pafs.FileType.Directory)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{shown(given)}: {first_line(error)}") from error


def _ahead(position: Position) -> bool:
    return position.begun is not None and (position.done is None or position.begun > position.done)


def _open(given: str, version: int | None) -> DeltaTable:
    place, options = delta_place(given)
    try:
        table = DeltaTable(place, version=version, storage_options=options)
    except TableNotFoundError as error:
        raise SourceError(f"{shown(given)}: no such Delta table") from error
    except (DeltaError, OSError) as error:
        what = "the Delta table" if version is None else f"version {version} of the Delta table"
        raise SourceError(f"{shown(given)}: {what} cannot be read ({first_line(error)})") from error
    features = set(table.protocol().reader_features or ()) - HARMLESS_FEATURES
    if features or table.protocol().min_reader_version == 2:
        # Reader version 2 means column mapping.
        names = ", ".join(sorted(features)) or "columnMapping"
        raise SourceError(
            f"{shown(given)}: the table uses {names}, which are not read; write it without them"
        )
    return table


def _active(table: DeltaTable) -> dict[str, dict[str, Any]]:
    """Give the files of a version by their names, each with the values of its partition."""
    actions = pa.table(table.get_add_actions(flatten=False)).to_pylist()
    return {
        unquote(action["path"]): {
            name: None if value is None else str(value)
            for name, value in (action.get("partition") or {}).items()
        }
        for action in actions
    }


def _added(given: str, version: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the files that one commit added with new rows."""
    path = beside(given, f"_delta_log/{version:020d}.json")
    try:
        with open_file(path) as log:
            lines = log.read().splitlines()
    except SourceError as error:
        raise SourceError(
            f"{shown(given)}: version {version} is no longer in the table's log; ingest before it "
            "is cleaned up, or start anew from source.version"
        ) from error
    for action in map(json.loads, filter(None, lines)):
        if "add" in action and action["add"]["dataChange"]:
            # A name in a log is encoded once.
            yield unquote(action["add"]["path"]), action["add"].get("partitionValues") or {}


def _delivery(
    table: DeltaTable, given: str, added: tuple[str, dict[str, Any]], layout: Layout
) -> Delivery:
    """Describe one data file; its name in the table is its digest, since it is never rewritten."""
    name, partition = added
    path, digest = beside(given, name), key_of("delta", table.metadata().id, name)
    names = check_parquet(path, layout.limits).schema.to_arrow_schema().names
    # A column that the table got later is null in older files.
    constants = {n: partition.get(n) for n in layout.wanted if n not in names}
    return Delivery(
        digest,
        shown(path),
        look_at(path).size,
        tuple(divide_file(path, "parquet", digest, layout, tuple(constants.items()))),
    )

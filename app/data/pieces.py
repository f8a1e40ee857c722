"""What a source is read as: pieces, the rows of a piece, and the limits that both must keep.

Knows Arrow tables and positions; knows nothing of file formats, contracts, Ray or tables.
"""

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.data.plain_cells import plain_cells

FileKind = Literal["parquet", "csv", "jsonl"]
DELIVERY, POSITION, BROKEN = "__delivery", "__position", "__broken"
# In a block's metadata: columns that its rows had and that were dropped.
LEFT_OUT = "left_out"
# A column of whole JSON objects as text: their cells are judged strictly, by their JSON types.
OBJECT = "__object"
NOWHERE = -1
MEGABYTE = 2**20
BLOCK_ROWS = 65_536
# Of text as it is read, and of cells as they are unpacked: what one block may hold.
BLOCK_BYTES = 8 * MEGABYTE
NONE = np.empty(0, np.int64)


class SourceError(ValueError):
    """A source that cannot be read; the message names the file and what to do."""


class NothingThere(SourceError):
    """A place that can be read, and that holds no file yet."""


class Limits(NamedTuple):
    """What a file may unpack to. A file over both unpacked limits is refused, a cell's row broken.

    An honest large file is over the first and far under the second; a bomb is over both.
    """

    max_unpacked_bytes: int = 2048 * MEGABYTE
    max_unpack_ratio: float = 200.0
    max_cell_bytes: int = MEGABYTE
    max_block_rows: int = BLOCK_ROWS

    @property
    def max_line_bytes(self) -> int:
        """The longest line of text that is held in memory."""
        return 2 * self.max_cell_bytes + BLOCK_BYTES

    def refuse_bomb(self, place: str, packed: int, unpacked: int) -> None:
        """Raise SourceError when a file of `packed` bytes unpacks to too many."""
        if unpacked > self.max_unpacked_bytes and unpacked > packed * self.max_unpack_ratio:
            raise SourceError(
                f"{place}: {packed:,} bytes unpack to {unpacked:,} or more, over "
                f"{self.max_unpacked_bytes // MEGABYTE:,} MB and {self.max_unpack_ratio:g} times "
                "its size; if the file is meant, raise source.max_unpacked_mb"
            )


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Piece:
    """A part of a file that one task reads: a row group of Parquet, or a whole text file.

    `path` is a path or a URI. `constants` are columns that stand beside the file's own, such as the
    partition values of a Delta table. The columns `left_out`, as the file calls them, may stand in
    it and are never read; of JSON lines they are dropped from every object.
    """

    path: str
    kind: FileKind
    digest: str
    row_group: int = 0
    first_position: int = 0
    limits: Limits = DEFAULT_LIMITS
    constants: tuple[tuple[str, object], ...] = ()
    delimiter: str = ","
    left_out: tuple[str, ...] = ()


class Rows(NamedTuple):
    """Some rows of a delivery, their positions in it, broken lines, and the delivery.

    `left_out` are columns that some of these rows had and that were dropped.
    """

    table: pa.Table
    positions: npt.NDArray[np.int64]
    broken: Sequence[tuple[int, str]]
    digest: str
    left_out: tuple[str, ...] = ()

    def with_places(self) -> pa.Table:
        """Add delivery and position to every row; broken lines follow as nulls."""
        known = [None] * self.table.num_rows
        problems = pa.array([*known, *(what for _, what in self.broken)], pa.string())
        positions = np.append(self.positions, [line for line, _ in self.broken]).astype(np.int64)
        names = self.table.column_names
        nothing = [pa.nulls(len(self.broken), kind) for kind in self.table.schema.types]
        # Made anew from its columns, a table may hold nulls.
        table = pa.Table.from_arrays(self.table.columns, names=names)
        table = pa.concat_tables([table, pa.table(nothing, names=names)])
        table = table.replace_schema_metadata({LEFT_OUT: "\0".join(self.left_out)})
        return (
            table.append_column(DELIVERY, pa.repeat(pa.scalar(self.digest), len(positions)))
            .append_column(POSITION, pa.array(positions))
            .append_column(BROKEN, problems)
        )


def left_out_of(block: pa.Table) -> tuple[str, ...]:
    """Name the columns that the rows of a block had and that were dropped."""
    written = (block.schema.metadata or {}).get(LEFT_OUT.encode(), b"").decode()
    return tuple(filter(None, written.split("\0")))


def within_limits(rows: Rows, limits: Limits, dictionaries: Collection[str] = ()) -> Iterator[Rows]:
    """Break rows that hold a huge cell, and divide the others so that each part fits in memory.

    Dictionaries are measured before they are unpacked: a thousand rows may share one huge value.
    Those of the columns named in `dictionaries` stay.
    """
    if _surely_within(rows.table, limits, dictionaries):
        part = plain_cells(rows.table, dictionaries)
        yield rows._replace(table=part)
        return
    sizes = np.zeros(rows.table.num_rows, np.int64)
    huge: dict[int, str] = {}
    for name, column in zip(rows.table.column_names, rows.table.columns, strict=True):
        lengths = _lengths(column)
        if lengths is None:
            continue
        for place in np.flatnonzero(lengths > limits.max_cell_bytes).tolist():
            problem = f"has {lengths[place]:,} bytes in column {name}"
            huge.setdefault(place, f"{problem}, at most {limits.max_cell_bytes:,} are read")
        if name not in dictionaries:
            sizes += lengths
    broken = [*rows.broken, *((int(rows.positions[i]), what) for i, what in huge.items())]
    kept = np.delete(np.arange(rows.table.num_rows), list(huge))
    table = rows.table.take(pa.array(kept)) if huge else rows.table
    steps = np.cumsum(sizes[kept]) // BLOCK_BYTES
    cuts = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(kept)]
    for start, end in itertools.pairwise(cuts):
        part = plain_cells(table.slice(start, end - start), dictionaries)
        # Broken lines go with the first part, and alone when there is no other.
        yield Rows(part, rows.positions[kept[start:end]], broken, rows.digest, rows.left_out)
        broken = []


def _surely_within(table: pa.Table, limits: Limits, dictionaries: Collection[str]) -> bool:
    """Tell cheaply whether no cell is huge and all of them fit in one block; False: look closer."""
    total = 0
    for name, column in zip(table.column_names, table.columns, strict=True):
        encoded = pa.types.is_dictionary(column.type)
        values = [chunk.dictionary for chunk in column.chunks] if encoded else column.chunks
        lengths = [_lengths(pa.chunked_array([each])) for each in values if len(each)]
        known = [each for each in lengths if each is not None]
        longest = max((int(each.max()) for each in known), default=0)
        if longest > limits.max_cell_bytes:
            return False
        if name not in dictionaries:
            total += longest * len(column) if encoded else sum(int(each.sum()) for each in known)
    return total < BLOCK_BYTES


def _lengths(column: pa.ChunkedArray) -> npt.NDArray[np.int64] | None:
    """Give the bytes of each cell of text or bytes; None for a column of fixed width."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        parts = [_lengths_of_codes(chunk) for chunk in column.chunks]
        return None if any(part is None for part in parts) else np.concatenate([NONE, *parts])
    if pa.types.is_string_view(kind):
        column = column.cast(pa.large_string())
    elif pa.types.is_binary_view(kind):
        column = column.cast(pa.large_binary())
    elif not (is_bytes(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    lengths: npt.NDArray[np.int64] = pc.binary_length(column).fill_null(0).to_numpy()
    return lengths.astype(np.int64)


def is_bytes(kind: pa.DataType) -> bool:
    """Tell whether an Arrow type holds bytes of any length."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _lengths_of_codes(chunk: pa.DictionaryArray) -> npt.NDArray[np.int64] | None:
    lengths = _lengths(pa.chunked_array([chunk.dictionary]))
    if lengths is None:
        return None
    codes = chunk.indices.cast(pa.int64()).fill_null(len(lengths)).to_numpy(zero_copy_only=False)
    found: npt.NDArray[np.int64] = np.append(lengths, 0)[codes]
    return found

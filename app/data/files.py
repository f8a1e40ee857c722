"""Find the files of a source, refuse what cannot be read, and read them piece by piece.

Knows which kinds of files there are; knows nothing of contracts beyond column names, of Ray or of
tables. How each kind is read is for parquet_files and text_files to say.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from app.data.parquet_files import check_parquet, read_parquet
from app.data.pieces import (
    BROKEN,
    DEFAULT_LIMITS,
    DELIVERY,
    NOWHERE,
    POSITION,
    FileKind,
    Limits,
    NothingThere,
    Piece,
    Rows,
    SourceError,
    within_limits,
)
from app.data.storage import Found, digest_file, find, look_at
from app.data.stores import first_line, shown
from app.data.text_files import csv_header, read_csv, read_jsonl

__all__ = [
    "BROKEN",
    "DELIVERY",
    "NOWHERE",
    "POSITION",
    "FileKind",
    "Limits",
    "Piece",
    "Rows",
    "SourceError",
    "digest_file",
]

# Rows of a block that nobody has.
WHOLE = 2**62
PACKED = ("", ".gz", ".bz2", ".zst")
ENDINGS: dict[FileKind, tuple[str, ...]] = {
    "parquet": (".parquet",),
    "csv": tuple(f".csv{packed}" for packed in PACKED),
    "jsonl": tuple(f"{name}{packed}" for name in (".jsonl", ".ndjson") for packed in PACKED),
}
Naming = Callable[[Sequence[str]], list[str]]
READERS: dict[FileKind, Callable[[Piece], Iterator[Rows]]] = {
    "parquet": read_parquet,
    "csv": read_csv,
    "jsonl": read_jsonl,
}


def find_files(given: str, kind: FileKind) -> list[Found]:
    """Return the files that a path, a folder, a prefix or a glob names, in order of name."""
    found = find(given, ENDINGS[kind])
    if not found:
        raise NothingThere(f"{shown(given)}: no such {kind} file; name a path, a folder or a glob")
    return found


def as_they_are(names: Sequence[str]) -> list[str]:
    """Take the columns of a file by the names that it gives them."""
    return list(names)


@dataclass(frozen=True)
class Layout:
    """Which columns a file must have, may have, and must not bring in; how it is written.

    `naming` translates the names that the file gives them. Forbidden columns may be there, and are
    left out unread. The columns of JSON lines are judged row by row.
    """

    wanted: Collection[str]
    optional: Collection[str] = ()
    forbidden: Collection[str] = ()
    naming: Naming = as_they_are
    delimiter: str = ","
    limits: Limits = DEFAULT_LIMITS

    def check(self, names: Sequence[str], place: str) -> tuple[str, ...]:
        """Check a file's columns and return those to leave out, as the file calls them."""
        named = self.naming(names)
        check_names(named, self.wanted, [*self.optional, *self.forbidden], place)
        pairs = zip(names, named, strict=True)
        return tuple(own for own, name in pairs if name in self.forbidden)


def open_pieces(
    path: str,
    kind: FileKind,
    wanted: Collection[str],
    optional: Collection[str] = (),
    forbidden: Collection[str] = (),
    *,
    naming: Naming = as_they_are,
    delimiter: str = ",",
    limits: Limits = DEFAULT_LIMITS,
) -> list[Piece]:
    """Check a file as a whole and divide it; what is asked of it is a Layout.

    Raises SourceError for a file that is empty or cut off, or whose columns are others.
    """
    if look_at(path).size == 0:
        raise SourceError(f"{shown(path)}: the file is empty; deliver it again")
    layout = Layout(wanted, optional, forbidden, naming, delimiter, limits)
    return divide_file(path, kind, digest_file(path), layout)


def divide_file(
    path: str,
    kind: FileKind,
    digest: str,
    layout: Layout,
    constants: tuple[tuple[str, object], ...] = (),
) -> list[Piece]:
    """Check the columns of a file that has a digest, and divide it; see open_pieces."""
    left_out = tuple(layout.forbidden)
    piece = Piece(
        path,
        kind,
        digest,
        limits=layout.limits,
        constants=constants,
        delimiter=layout.delimiter,
        left_out=left_out,
    )
    if kind == "jsonl":
        return [piece]
    if kind == "csv":
        names = csv_header(path, layout.limits, layout.delimiter)
        return [replace(piece, left_out=layout.check(names, shown(path)))]
    footer = check_parquet(path, layout.limits)
    names = [*footer.schema.to_arrow_schema().names, *(name for name, _ in constants)]
    left_out = layout.check(names, shown(path))
    sizes = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist()
    return [
        replace(piece, row_group=group, first_position=starts[group], left_out=left_out)
        for group in range(len(sizes))
    ]


def read_rows(piece: Piece, dictionaries: Collection[str] = ()) -> Iterator[Rows]:
    """Read a piece in blocks of bounded size, in the order of the file.

    Text columns of Parquet that are named in `dictionaries` come dictionary-encoded, as they
    usually lie in the file. Raises SourceError when its bytes are damaged or changed meanwhile.
    """
    try:
        for rows in READERS[piece.kind](piece):
            for part in within_limits(rows, piece.limits, dictionaries):
                yield part._replace(table=_with_constants(part.table, piece))
    except (pa.ArrowException, OSError) as error:
        place = f"row group {piece.row_group}" if piece.kind == "parquet" else "the file"
        raise SourceError(
            f"{shown(piece.path)}: {place} cannot be read, deliver the file again "
            f"({first_line(error)})"
        ) from error


def read_piece(piece: Piece, dictionaries: Collection[str] = ()) -> Rows:
    """Read one piece whole, as read_rows does. Raises SourceError like it."""
    whole = piece.limits._replace(max_block_rows=WHOLE)
    parts = list(read_rows(replace(piece, limits=whole), dictionaries))
    if not parts:
        return Rows(pa.table({}), np.empty(0, np.int64), [], piece.digest)
    table = pa.concat_tables([part.table for part in parts], promote_options="permissive")
    if len(parts) > 1 and dictionaries:
        # Blocks have dictionaries of their own.
        table = table.unify_dictionaries().combine_chunks()
    positions = np.concatenate([part.positions for part in parts])
    return Rows(table, positions, [line for part in parts for line in part.broken], piece.digest)


def failed(error: ValueError, names: Collection[str], digest: str) -> pa.Table:
    """Make a read error the only row of a block, at NOWHERE.

    So an error keeps its words on the way through a cluster, which would wrap it in others.
    """
    nothing = pa.table({name: pa.nulls(0) for name in names})
    return Rows(nothing, np.empty(0, np.int64), [(NOWHERE, str(error))], digest).with_places()


def check_names(
    names: Collection[str], wanted: Collection[str], optional: Collection[str], place: str
) -> None:
    """Raise SourceError unless a table has the wanted columns and no others but optional ones."""
    if not names:
        raise SourceError(f"{place}: the file has no columns; deliver it again")
    missing = [name for name in wanted if name not in names]
    unknown = [name for name in names if name not in wanted and name not in optional]
    doubled = sorted({name for name in names if list(names).count(name) > 1})
    parts = [
        f"{what} {', '.join(columns)}"
        for what, columns in (
            ("no column", missing),
            ("unknown column", unknown),
            ("twice", doubled),
        )
        if columns
    ]
    if parts:
        advice = "was one renamed? Rename it back" if missing and unknown else "mend the file"
        raise SourceError(f"{place}: {'; '.join(parts)}; {advice}, or change contract.columns")


def _with_constants(table: pa.Table, piece: Piece) -> pa.Table:
    for name, value in piece.constants:
        table = table.append_column(name, pa.repeat(pa.scalar(value), table.num_rows))
    return table

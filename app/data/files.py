"""Find the files of a source, refuse what cannot be read, and read them piece by piece.

Knows Parquet and CSV; knows nothing of contracts beyond column names, of Ray or of tables. CSV
cells are read as text: what they mean is for validation to say, not for a reader to guess.
"""

import csv
import glob
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

FileKind = Literal["parquet", "csv"]
DIGEST_CHARACTERS = 32
DELIVERY, POSITION, BROKEN = "__delivery", "__position", "__broken"
NOWHERE = -1


class SourceError(ValueError):
    """A source that cannot be read; the message names the file and what to do."""


@dataclass(frozen=True)
class Piece:
    """A part of a file that one task reads: a row group of Parquet, or a whole CSV file.

    The columns `left_out` stand in the file and are never read.
    """

    path: str
    kind: FileKind
    digest: str
    row_group: int = 0
    first_position: int = 0
    delimiter: str = ","
    left_out: tuple[str, ...] = ()


class Rows(NamedTuple):
    """The rows of a piece, their positions in the file, broken lines, and the delivery."""

    table: pa.Table
    positions: npt.NDArray[np.int64]
    broken: list[tuple[int, str]]
    digest: str

    def with_places(self) -> pa.Table:
        """Add delivery and position to every row; broken lines follow as nulls."""
        known = [None] * self.table.num_rows
        problems = pa.array([*known, *(what for _, what in self.broken)], pa.string())
        positions = np.append(self.positions, [line for line, _ in self.broken]).astype(np.int64)
        nothing = [pa.nulls(len(self.broken), kind) for kind in self.table.schema.types]
        table = pa.concat_tables([self.table, pa.table(nothing, names=self.table.column_names)])
        return (
            table.append_column(DELIVERY, pa.repeat(pa.scalar(self.digest), len(positions)))
            .append_column(POSITION, pa.array(positions))
            .append_column(BROKEN, problems)
        )


def find_files(given: str, kind: FileKind) -> list[Path]:
    """Return the files that a path, a folder or a glob names, in order of name."""
    path = Path(given).expanduser()
    if path.is_dir():
        found = sorted(file for file in path.rglob(f"*.{kind}") if file.is_file())
    else:
        # The pattern may be absolute, which Path.glob refuses.
        found = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207
    if not found:
        raise SourceError(f"{given}: no such {kind} file; name a path, a folder or a glob")
    return found


Naming = Callable[[Sequence[str]], list[str]]
Shaping = Callable[[Rows, str], Rows]


def as_they_are(names: Sequence[str]) -> list[str]:
    """Take the columns of a file by the names that it gives them."""
    return list(names)


def open_pieces(
    path: Path,
    kind: FileKind,
    wanted: Collection[str],
    optional: Collection[str] = (),
    forbidden: Collection[str] = (),
    *,
    naming: Naming = as_they_are,
    delimiter: str = ",",
) -> list[Piece]:
    """Check a file as a whole and divide it; `naming` translates its columns' names first.

    Forbidden columns may be there, and are left out.

    Raises SourceError for a file that is empty or cut off, or whose columns are others.
    """
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty; deliver it again")
    digest = digest_file(path)
    allowed = [*optional, *forbidden]
    if kind == "csv":
        names = read_header(path, delimiter)
        check_names(naming(names), wanted, allowed, str(path))
        left_out = _named(names, naming, forbidden)
        return [Piece(str(path), kind, digest, delimiter=delimiter, left_out=left_out)]
    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(
            f"{path}: no whole parquet file, deliver it again ({_first_line(error)})"
        ) from error
    names = footer.schema.to_arrow_schema().names
    check_names(naming(names), wanted, allowed, str(path))
    left_out = _named(names, naming, forbidden)
    sizes = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    return [
        Piece(str(path), kind, digest, group, int(starts[group]), left_out=left_out)
        for group in range(len(sizes))
    ]


def read_piece(piece: Piece, dictionaries: Collection[str] = ()) -> Rows:
    """Read one piece. Raises SourceError when its bytes are damaged or changed meanwhile.

    Text columns of Parquet that are named in `dictionaries` come dictionary-encoded, as they
    usually lie in the file.
    """
    try:
        if piece.kind == "csv":
            return _read_csv(piece)
        file = pq.ParquetFile(piece.path, read_dictionary=list(dictionaries))
        names = _others(file.schema_arrow.names, piece.left_out) if piece.left_out else None
        table = file.read_row_group(piece.row_group, columns=names)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(
            f"{piece.path}: row group {piece.row_group} cannot be read, deliver the file again "
            f"({_first_line(error)})"
        ) from error
    positions = piece.first_position + np.arange(table.num_rows, dtype=np.int64)
    return Rows(table, positions, [], piece.digest)


def read_or_fail(piece: Piece, names: Collection[str], shaping: Shaping | None = None) -> pa.Table:
    """Read one piece with places; when it cannot be read, its error is the only row, at NOWHERE.

    `shaping` turns the rows of a file into rows of the contract, given the file's path. So an error
    keeps its words on the way through a cluster, which would wrap it in others.
    """
    try:
        rows = read_piece(piece)
        return (shaping(rows, piece.path) if shaping else rows).with_places()
    except SourceError as error:
        nothing = pa.table({name: pa.nulls(0) for name in names})
        failed = Rows(nothing, np.empty(0, np.int64), [(NOWHERE, str(error))], piece.digest)
        return failed.with_places()


def digest_file(path: Path) -> str:
    """Digest a file's bytes."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:DIGEST_CHARACTERS]


def check_names(
    names: Collection[str], wanted: Collection[str], optional: Collection[str], place: str
) -> None:
    """Raise SourceError unless a table has the wanted columns and no others but optional ones."""
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


def _named(names: Sequence[str], naming: Naming, forbidden: Collection[str]) -> tuple[str, ...]:
    """Return the file's own names for the forbidden columns that it has."""
    return tuple(own for own, name in zip(names, naming(names), strict=True) if name in forbidden)


def _others(names: Collection[str], left_out: Collection[str]) -> list[str]:
    return [name for name in names if name not in left_out]


def read_header(path: Path, delimiter: str = ",") -> list[str]:
    """Read the names of a CSV file's columns. Raises SourceError when it is not in UTF-8."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            return next(csv.reader(lines, delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: no CSV in UTF-8 ({error})") from error


def _read_csv(piece: Piece) -> Rows:
    """Read all cells as text; a line with too few or too many fields is broken, and is not lost."""
    path, broken = Path(piece.path), list[tuple[int, str]]()

    def note(row: pacsv.InvalidRow) -> str:
        # Line 1 is the header.
        problem = f"has {row.actual_columns} fields instead of {row.expected_columns}"
        broken.append((row.number - 2, problem))
        return "skip"

    names = read_header(path, piece.delimiter)
    table = pacsv.read_csv(
        path,
        # Only one thread numbers the lines.
        read_options=pacsv.ReadOptions(use_threads=False),
        parse_options=pacsv.ParseOptions(
            delimiter=piece.delimiter, newlines_in_values=True, invalid_row_handler=note
        ),
        convert_options=pacsv.ConvertOptions(
            include_columns=_others(names, piece.left_out),
            column_types={name: pa.string() for name in names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    lines = np.arange(table.num_rows + len(broken), dtype=np.int64)
    return Rows(table, np.delete(lines, [line for line, _ in broken]), broken, piece.digest)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]

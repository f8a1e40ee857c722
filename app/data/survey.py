"""Look through a stranger's file, block by block: its columns, its number of rows, a sample.

Knows CSV and Parquet; knows nothing of what columns mean. Memory stays bounded however large the
file is. A file that cannot be used is refused in words for people.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from app.data.cells import NUMBER_TEXT
from app.data.files import FileKind, SourceError
from app.data.text_files import csv_header

SAMPLE_ROWS = 20_000
BLOCK_ROWS = 65_536
BLOCK_BYTES = 8 * 2**20
KINDS: dict[str, FileKind] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
DELIMITERS = (",", ";", "\t", "|")
SNIFFED_LINES = 50


@dataclass(frozen=True)
class Survey:
    """What a file holds: columns as it names them, rows, and evenly drawn ones of them."""

    path: Path
    kind: FileKind
    delimiter: str
    num_rows: int
    num_broken: int
    """Lines with too few or too many cells."""
    sample: pa.Table

    @property
    def names(self) -> list[str]:
        """The columns, as the file names them."""
        names: list[str] = self.sample.column_names
        return names

    def blocks(self) -> Iterator[pa.Table]:
        """Read the file again, block by block; cells of CSV are text."""
        return _blocks(self.path, self.kind, self.delimiter, [])


def survey(path: Path, seed: int = 7, sample_rows: int = SAMPLE_ROWS) -> Survey:
    """Read a file once. Raises SourceError, with what to do, for one that cannot be used."""
    kind = _kind_of(path)
    delimiter = sniff_delimiter(path) if kind == "csv" else ","
    if kind == "csv":
        _refuse_header(path, csv_header(str(path), delimiter=delimiter))
    chance = np.random.default_rng(seed)
    broken: list[int] = []
    kept, draws, num_rows = [], np.empty(0), 0
    for block in _blocks(path, kind, delimiter, broken):
        num_rows += block.num_rows
        kept.append(block)
        draws = np.append(draws, chance.random(block.num_rows))
        if len(draws) > 4 * sample_rows:
            kept, draws = _drawn(kept, draws, sample_rows)
    if num_rows == 0:
        raise SourceError(f"{path}: it has columns and no rows; fill it first")
    kept, _ = _drawn(kept, draws, sample_rows)
    return Survey(path, kind, delimiter, num_rows, len(broken), kept[0])


def _drawn(
    kept: list[pa.Table], draws: np.ndarray, sample_rows: int
) -> tuple[list[pa.Table], np.ndarray]:
    """Keep the rows with the lowest draws, in the order of the file: every row has equal odds."""
    table = pa.concat_tables(kept)
    chosen = np.sort(np.argsort(draws, kind="stable")[:sample_rows])
    return [table.take(pa.array(chosen)).combine_chunks()], draws[chosen]


def _kind_of(path: Path) -> FileKind:
    if path.is_dir():
        raise SourceError(f"{path}: this is a folder; name one file that stands for the others")
    if not path.exists():
        raise SourceError(f"{path}: no such file; check its name and the current folder")
    if path.suffix.lower() not in KINDS:
        known = ", ".join(KINDS)
        raise SourceError(f"{path}: {path.suffix or 'no ending'} is not known, {known} are")
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty; export it again")
    return KINDS[path.suffix.lower()]


def sniff_delimiter(path: Path) -> str:
    """Find what stands between the cells: what divides the first lines most evenly."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            head = [line for _, line in zip(range(SNIFFED_LINES), lines, strict=False)]
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    scores = {}
    for delimiter in DELIMITERS:
        widths = [len(cells) for cells in csv.reader(head, delimiter=delimiter) if cells]
        same = sum(width == widths[0] for width in widths) / len(widths) if widths else 0.0
        scores[delimiter] = (same > 0.9, widths[0] if widths else 0, same)
    return max(DELIMITERS, key=lambda delimiter: scores[delimiter])


def _refuse_header(path: Path, names: list[str]) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        shown = ", ".join(name or "(unnamed)" for name in doubled)
        raise SourceError(f"{path}: columns called {shown} stand more than once; rename them")
    numbers = [
        name for name in names if pa.compute.match_substring_regex(name, NUMBER_TEXT).as_py()
    ]
    if (len(names) == 1 and numbers) or len(numbers) > 1:
        raise SourceError(
            f"{path}: the first line holds values ({', '.join(names[:4])}, …), not names of "
            "columns; put a line of names on top"
        )


def _blocks(path: Path, kind: FileKind, delimiter: str, broken: list[int]) -> Iterator[pa.Table]:
    try:
        if kind == "csv":
            yield from _csv_blocks(path, delimiter, broken)
        else:
            file = pq.ParquetFile(path)
            for batch in file.iter_batches(BLOCK_ROWS):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        if "UTF" in str(error):
            raise _not_utf8(path) from error
        reason = str(error).strip().splitlines()[0][:200]
        raise SourceError(
            f"{path}: it cannot be read as {kind} ({reason}); export it again"
        ) from error


def _csv_blocks(path: Path, delimiter: str, broken: list[int]) -> Iterator[pa.Table]:
    def note(row: pacsv.InvalidRow) -> str:
        broken.append(row.number or 0)
        return "skip"

    names = csv_header(str(path), delimiter=delimiter)
    reader = pacsv.open_csv(
        path,
        read_options=pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        parse_options=pacsv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note
        ),
        convert_options=pacsv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    for batch in reader:
        yield pa.Table.from_batches([batch])


def _not_utf8(path: Path) -> SourceError:
    return SourceError(
        f"{path}: it is not UTF-8; save it as UTF-8 (in a spreadsheet: CSV UTF-8), or convert it: "
        f"iconv -f WINDOWS-1252 -t UTF-8 {path.name} > new.csv"
    )

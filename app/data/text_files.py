"""Read CSV and JSON lines block by block; a line that is no row is broken, and is not lost.

CSV cells are read as text, and JSON lines are kept as objects: what they mean is for validation to
say, not for a reader to guess. Knows text formats; knows nothing of contracts, Ray or tables.
"""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pacsv

from app.data.lines import Records, Unpacked, divide, first_record
from app.data.pieces import BLOCK_ROWS, DEFAULT_LIMITS, OBJECT, Limits, Piece, Rows, SourceError
from app.data.storage import look_at, open_stream
from app.data.stores import shown

WHITESPACE = b" \t\r\n"


def csv_header(path: str, limits: Limits = DEFAULT_LIMITS, delimiter: str = ",") -> list[str]:
    """Read the names of a CSV file's columns. Raises SourceError when it is no CSV in UTF-8."""
    start = next(_records(path, limits, delimiter), Records(b""))
    return _names(path, start, delimiter)[0]


def read_csv(piece: Piece) -> Iterator[Rows]:
    """Read all cells of a file as text; only an empty one without quotes is null."""
    records = _records(piece.path, piece.limits, piece.delimiter)
    names, content = _names(piece.path, next(records, Records(b"")), piece.delimiter)
    read = [name for name in names if name not in piece.left_out]
    position = 0
    for part in itertools.chain([Records(content)], records):
        if part.problem:
            rows = _rows(piece, _no_rows(read), position, [(0, part.problem)])
        else:
            rows = _csv_rows(piece, names, part.content, position)
        position += rows.table.num_rows + len(rows.broken)
        yield rows


def read_jsonl(piece: Piece) -> Iterator[Rows]:
    """Read a JSON object a line, as text in one column; a blank line is no row.

    Objects are told from other lines here; their cells are judged by their JSON types later.
    """
    position = 0
    for part in _records(piece.path, piece.limits):
        lines = [line for line in part.content.split(b"\n") if line.strip(WHITESPACE)]
        for start in range(0, max(len(lines), 1), BLOCK_ROWS):
            rows = _json_rows(piece, lines[start : start + BLOCK_ROWS], position, part.problem)
            position += rows.table.num_rows + len(rows.broken)
            yield rows


def objects_as_columns(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Spread JSON objects into columns by name; other tables stay as they are.

    What an object lacks is null. A column whose values have no one type becomes text.
    """
    if table.column_names != [OBJECT]:
        return table
    rows = [orjson.loads(line) for line in table[OBJECT].to_pylist()]
    return pa.table({name: array_of([row.get(name) for row in rows]) for name in names})


def array_of(values: Sequence[Any]) -> pa.Array:
    """Make a column of Python values; of several types, or of none that Arrow has, as text."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: object) -> str:
    return str(value).encode(errors="backslashreplace").decode()


def _records(path: str, limits: Limits, delimiter: str = "") -> Iterator[Records]:
    """Divide a file; with a delimiter its fields may be quoted."""
    mark = delimiter.encode()
    with open_stream(path) as stream:
        watched = Unpacked(stream, shown(path), look_at(path).size, limits)
        yield from divide(watched, limits.max_line_bytes, quotes=bool(mark), delimiter=mark)


def _names(path: str, start: Records, delimiter: str) -> tuple[list[str], bytes]:
    """Read the header at the beginning of a file; return the names, and what follows of it."""
    line = first_record(start.content, delimiter.encode())
    try:
        if start.problem:
            raise csv.Error(f"its first line {start.problem}")
        text = io.StringIO(line.decode(), newline="")
        names = next(csv.reader(text, delimiter=delimiter, strict=True), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{shown(path)}: no CSV in UTF-8 ({error})") from error
    return names, start.content[len(line) :]


def _csv_rows(piece: Piece, names: list[str], content: bytes, position: int) -> Rows:
    """Parse a block of whole records; `position` is that of the first."""
    broken: list[tuple[int, str]] = []

    def note(row: pacsv.InvalidRow) -> str:
        problem = f"has {row.actual_columns} fields instead of {row.expected_columns}"
        broken.append((row.number - 1, problem))
        return "skip"

    read = [name for name in names if name not in piece.left_out]
    if not content.strip(b"\r\n"):
        return _rows(piece, _no_rows(read), position)
    table = pacsv.read_csv(
        pa.BufferReader(content),
        # Only one thread numbers the lines; the block is parsed as one.
        read_options=pacsv.ReadOptions(
            use_threads=False, column_names=names, block_size=len(content) + 1
        ),
        parse_options=pacsv.ParseOptions(
            delimiter=piece.delimiter, newlines_in_values=True, invalid_row_handler=note
        ),
        convert_options=pacsv.ConvertOptions(
            include_columns=read,
            column_types={name: pa.binary() for name in read},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    lines = np.delete(np.arange(len(table) + len(broken)), [line for line, _ in broken])
    table, bad = _as_text(table)
    broken += [(int(lines[i]), problem) for i, problem in bad.items()]
    return _rows(piece, table, position, broken)


def _no_rows(names: Sequence[str]) -> pa.Table:
    return pa.table({name: pa.nulls(0, pa.string()) for name in names})


def _rows(
    piece: Piece, table: pa.Table, position: int, broken: list[tuple[int, str]] | None = None
) -> Rows:
    """Give rows their positions: the broken ones stand between them."""
    broken = broken or []
    lines = np.arange(table.num_rows + len(broken), dtype=np.int64)
    positions = np.delete(lines, [line for line, _ in broken]) + position
    return Rows(table, positions, [(line + position, what) for line, what in broken], piece.digest)


def _as_text(table: pa.Table) -> tuple[pa.Table, dict[int, str]]:
    """Read bytes as UTF-8; rows where they are none are taken out, with their problems."""
    bad: dict[int, str] = {}
    text = pa.schema([(name, pa.string()) for name in table.column_names])
    try:
        return table.cast(text), bad
    except pa.ArrowInvalid:
        for name in table.column_names:
            cells = enumerate(table[name].to_pylist())
            wrong = (i for i, cell in cells if cell is not None and not _is_text(cell))
            bad |= {i: f"is no text in UTF-8, in column {name}" for i in wrong if i not in bad}
    kept = np.delete(np.arange(table.num_rows), list(bad))
    return table.take(pa.array(kept)).cast(text), bad


def _is_text(cell: bytes) -> bool:
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True


def _json_rows(piece: Piece, lines: list[bytes], position: int, problem: str | None) -> Rows:
    objects: list[str] = []
    broken: list[tuple[int, str]] = [(0, problem)] if problem else []
    dropped: set[str] = set()
    for place, line in enumerate(lines):
        row = _object(line)
        if isinstance(row, str):
            broken.append((place, row))
            continue
        found = row.keys() & piece.left_out
        if found:
            # Before anything keeps the line: what must not come in is in no block.
            dropped |= found
            line = orjson.dumps({k: v for k, v in row.items() if k not in found})
        if fault := _huge(line, row, piece):
            broken.append((place, fault))
        else:
            objects.append(line.decode())
    table = pa.table({OBJECT: pa.array(objects, pa.string())})
    rows = _rows(piece, table, position, broken)
    return rows._replace(left_out=tuple(sorted(dropped)))


def _object(line: bytes) -> dict[str, object] | str:
    """Read a line; gives what is wrong with it when it is no JSON object."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"is no JSON ({error})"
    return row if isinstance(row, dict) else f"must be a JSON object, got {type(row).__name__}"


def _huge(line: bytes, row: dict[str, object], piece: Piece) -> str | None:
    """Complain about a cell that is too long; one that is dropped is not looked at."""
    max_cell_bytes = piece.limits.max_cell_bytes
    if len(line) <= max_cell_bytes:
        return None
    row = {k: v for k, v in row.items() if k not in piece.left_out}
    huge = [k for k, v in row.items() if isinstance(v, str) and len(v.encode()) > max_cell_bytes]
    return f"has over {max_cell_bytes:,} bytes in column {huge[0][:64]}" if huge else None

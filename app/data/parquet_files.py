"""Check Parquet files before they are read, and read them in blocks of bounded size.

A file is refused when it is no whole Parquet file, unpacks to far more than it holds, or has nested
columns or Arrow extension types: their metadata is never handed to a reader, so that nothing in it
can run. Knows Parquet; knows nothing of contracts, Ray or tables.
"""

import base64
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.data.cells import is_text
from app.data.pieces import Limits, Piece, Rows, SourceError, is_bytes
from app.data.storage import look_at, open_file
from app.data.stores import first_line, shown

MAGIC, ENCRYPTED = b"PAR1", b"PARE"
TAIL_BYTES = 8
MAX_FOOTER_BYTES = 2**28
STORED_SCHEMA = re.compile(rb"ARROW:schema.{1,8}?([A-Za-z0-9+/]{24,}=*)", re.DOTALL)
EXTENSION = b"ARROW:extension:name"
READ_AHEAD_BYTES = 2**20
# Bytes of a cell once unpacked, by physical type; text has its offset at least.
CELL_BYTES = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 8}
OTHER_CELL_BYTES = 4


def check_parquet(path: str, limits: Limits) -> pq.FileMetaData:
    """Return the footer of a whole, plain and modest file. Raises SourceError for any other."""
    packed = look_at(path).size
    with open_file(path) as file:
        _refuse_extensions(_footer_bytes(file, packed, path), path)
        try:
            # The same open file: a path would be opened anew, and may be another file by then.
            footer = pq.ParquetFile(file).metadata
            schema = footer.schema.to_arrow_schema()
        except (pa.ArrowException, OSError) as error:
            raise _not_whole(path, first_line(error)) from error
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if nested:
        raise SourceError(
            f"{shown(path)}: nested column {', '.join(nested)}; write each value to a column of "
            "its own"
        )
    limits.refuse_bomb(shown(path), packed, _unpacked_bytes(footer))
    return footer


def read_parquet(piece: Piece) -> Iterator[Rows]:
    """Read a row group in blocks. Text keeps its dictionary, so that no value is multiplied."""
    check_parquet(piece.path, piece.limits)
    with open_file(piece.path) as content:
        footer = pq.ParquetFile(content)
        schema = footer.schema_arrow
        text = [f.name for f in schema if _is_text_or_bytes(f.type)]
        file = pq.ParquetFile(
            content, read_dictionary=text, buffer_size=READ_AHEAD_BYTES, pre_buffer=False
        )
        names = [name for name in schema.names if name not in piece.left_out]
        columns = names if piece.left_out else None
        position = piece.first_position
        batches = file.iter_batches(
            piece.limits.max_block_rows, row_groups=[piece.row_group], columns=columns
        )
        for batch in batches:
            table = pa.Table.from_batches([batch])
            positions = position + np.arange(table.num_rows, dtype=np.int64)
            position += table.num_rows
            yield Rows(table, positions, [], piece.digest)


def _footer_bytes(file: pa.NativeFile, size: int, path: str) -> bytes:
    if size < len(MAGIC) + TAIL_BYTES:
        raise _not_whole(path, f"it has {size} bytes")
    head = file.read(len(MAGIC))
    file.seek(size - TAIL_BYTES)
    tail = file.read(TAIL_BYTES)
    if tail[-4:] == ENCRYPTED:
        raise SourceError(f"{shown(path)}: the file is encrypted; deliver it in the clear")
    if head != MAGIC or tail[-4:] != MAGIC:
        problem = f"it begins with {head!r} and ends with {tail[-4:]!r} instead of {MAGIC!r}"
        raise _not_whole(path, problem)
    length = int.from_bytes(tail[:4], "little")
    if length > min(size - TAIL_BYTES - len(MAGIC), MAX_FOOTER_BYTES):
        raise _not_whole(path, f"its footer claims {length:,} bytes")
    file.seek(size - TAIL_BYTES - length)
    footer: bytes = file.read(length)
    return footer


def _refuse_extensions(footer: bytes, path: str) -> None:
    """Look into the stored Arrow schema as bytes: reading it would make its types."""
    for found in STORED_SCHEMA.finditer(footer):
        stored = found.group(1)
        # Bytes of a length may look like the text that follows them: try each alignment.
        aligned = (stored[i : len(stored) - (len(stored) - i) % 4] for i in range(4))
        texts = map(base64.b64decode, aligned)
        if EXTENSION in footer or any(EXTENSION in text for text in texts):
            raise SourceError(
                f"{shown(path)}: has a column of an Arrow extension type; write it as its plain "
                "storage type"
            )


def _unpacked_bytes(footer: pq.FileMetaData) -> int:
    """Estimate from below what the file unpacks to: in its pages, and as columns in memory."""
    schema = footer.schema
    kinds = [schema.column(i).physical_type for i in range(footer.num_columns)]
    width = sum(CELL_BYTES.get(kind, OTHER_CELL_BYTES) for kind in kinds)
    groups = (footer.row_group(i) for i in range(footer.num_row_groups))
    return int(max(sum(group.total_byte_size for group in groups), footer.num_rows * width))


def _is_text_or_bytes(kind: pa.DataType) -> bool:
    return is_text(kind) or is_bytes(kind)


def _not_whole(path: str, problem: str) -> SourceError:
    return SourceError(f"{shown(path)}: no whole parquet file, deliver it again ({problem})")

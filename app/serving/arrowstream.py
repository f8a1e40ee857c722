"""Read rows from an Arrow IPC stream of a stranger, and write predictions as one.

Nothing is decoded before the stream's claims have been read (see frames): rows are bounded, bodies
are not compressed, columns are of a few plain types, and no dictionary unfolds to more than a body
may hold. Then every buffer is validated, and only then is any value touched. Knows Arrow and the
contract; knows nothing of HTTP, models or where rows go. Raises Refused: 400, or 413 for too many
rows.
"""

from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.records import Roles
from app.contracts.rows import TIMESTAMP, Column, Contract
from app.data.buffers import numbers_of
from app.data.cells import is_text
from app.serving.arrivingcolumns import check_keys, refuse_unknown
from app.serving.frames import RECORD_BATCH, FrameError, read_frames
from app.serving.messages import Refused
from app.serving.tablepath import Scored

# No column of a contract has this name: those begin with a letter.
KEY_COLUMN = "_idempotency_key"
REQUEST_ID = b"request_id"
MAX_ID = 200
VIEW = np.dtype(("<i4", 4))
COARSE = ("s", "ms")
ANSWER = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("prediction_id", pa.string(), nullable=False),
        pa.field("probability", pa.float64(), nullable=False),
    ]
)
VERSION = pa.field("version", pa.string(), nullable=False)


class Bulk(NamedTuple):
    """Rows as they were read: columns of float64, text or TIMESTAMP; what came along with them."""

    table: pa.Table
    keys: list[str] | None
    request_id: str | None


def read_stream(body: bytes, contract: Contract, max_rows: int, max_bytes: int) -> Bulk:
    """Read a stream; `max_bytes` bounds its texts as they are when they are written out."""
    try:
        frames = read_frames(body)
    except FrameError as error:
        change = "send one Arrow IPC stream, to its end"
        raise Refused(400, "body", str(error), change) from None
    num_rows = sum(frame.num_rows for frame in frames if frame.kind == RECORD_BATCH)
    if num_rows > max_rows:
        got = f"{num_rows}, more than {max_rows}"
        raise Refused(413, "rows", got, "send several smaller requests")
    if num_rows == 0:
        raise Refused(400, "rows", "none", "send at least one")
    if any(frame.num_rows > len(body) for frame in frames):
        raise Refused(400, "body", "a dictionary longer than the body", "send the values it has")
    table = _read_table(body, contract)
    if table.num_rows != num_rows:
        got = f"{table.num_rows} rows, where {num_rows} are claimed"
        raise Refused(400, "body", got, "mend what writes the stream")
    request_id = _request_id(table.schema)
    _refuse_long_texts(table, max_bytes)
    keys = None
    if KEY_COLUMN in table.column_names:
        keys = check_keys(_text(table[KEY_COLUMN]).to_pylist(), num_rows)
    columns = {
        name: _plain(column, contract.by_name[name])
        for name, column in zip(table.column_names, table.columns, strict=True)
        if name != KEY_COLUMN
    }
    return Bulk(pa.table(columns), keys, request_id)


def write_stream(model: str, request_id: str, scored: Scored) -> bytes:
    """Write predictions as a stream; its schema's metadata says what made them.

    Metadata: model, version, generation, request_id, and `rejected`, a JSON list of the rows that
    were not accepted: [{"row": place in the request, "reasons": [...]}]; `kept` is false where the
    predictions could not be logged, and absent otherwise. Where two versions may have answered
    there is one more column, `version`: who answered the row.
    """
    roles: Roles = scored.roles
    metadata = {
        "model": model,
        "version": str(roles.champion),
        "generation": str(roles.generation),
        "request_id": request_id,
        "rejected": orjson.dumps([item.model_dump() for item in scored.rejected]),
    }
    if not scored.is_kept:
        metadata["kept"] = "false"
    schema = (ANSWER.append(VERSION) if scored.is_mixed else ANSWER).with_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(scored.predictions.select(schema.names).cast(schema))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _read_table(body: bytes, contract: Contract) -> pa.Table:
    """Read batches whose columns are of the contract and of plain types, and validate them."""
    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            schema = reader.schema
            refuse_unknown([n for n in schema.names if n != KEY_COLUMN], contract, "columns")
            if schema.names.count(KEY_COLUMN) > 1:
                raise Refused(400, "columns", f"{KEY_COLUMN} twice", "send it once")
            for field in schema:
                _refuse_other_type(field, contract.by_name.get(field.name))
            batches = []
            for batch in reader:
                batch.validate(full=True)
                batches.append(batch)
        return pa.Table.from_batches(batches, schema)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        got = str(error).partition("\n")[0][:200]
        raise Refused(400, "body", got, "mend what writes the stream") from None


def _refuse_other_type(field: pa.Field, column: Column | None) -> None:
    """Refuse a type that cannot be read without a guess; the column of keys is text."""
    kind = field.type
    if column is not None and column.kind == "number":
        wanted = "a floating type or an integer type"
        fits = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    else:
        wanted = "string, large_string, or a dictionary of one"
        fits = is_text(kind) or (pa.types.is_dictionary(kind) and _is_string(kind.value_type))
        if column is not None and column.kind == "time":
            wanted = f"a timestamp with a zone, or ISO 8601 in {wanted}"
            fits = fits or (pa.types.is_timestamp(kind) and kind.tz is not None)
    nothing = pa.types.is_null(kind) and column is not None
    if not (fits or nothing):
        place = f"columns.{field.name}" if column is not None else f"columns.{KEY_COLUMN}"
        raise Refused(400, place, f"type {str(kind)[:100]}", f"send {wanted}")


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _request_id(schema: pa.Schema) -> str | None:
    """Read the request's id from the schema's metadata."""
    content = (schema.metadata or {}).get(REQUEST_ID)
    if content is None:
        return None
    try:
        text: str = content.decode()
    except UnicodeDecodeError:
        text = ""
    if not 0 < len(text) <= MAX_ID:
        got = f"{len(content)} bytes"
        raise Refused(400, "request_id", got, f"send a text of 1 to {MAX_ID} characters")
    return text


def _refuse_long_texts(table: pa.Table, max_bytes: int) -> None:
    """Refuse texts that are longer written out than a body may be: dictionaries, views."""
    total = sum(_text_bytes(chunk) for column in table.columns for chunk in column.chunks)
    if total > max_bytes:
        got = f"texts of {total} bytes, more than {max_bytes}"
        raise Refused(413, "body", got, "send several smaller requests")


def _text_bytes(chunk: pa.Array) -> int:
    """Count the bytes of a chunk's texts as they are when they are written out."""
    kind = chunk.type
    if pa.types.is_primitive(kind):
        return 0
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
        return int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)
    if not is_text(kind) or not len(chunk):
        return 0
    if pa.types.is_string_view(kind):
        # A view begins with its text's length; Arrow has no kernel that reads it.
        views = numbers_of(chunk.buffers()[1], VIEW)
        return int(views[chunk.offset : chunk.offset + len(chunk), 0].astype(np.int64).sum())
    places = numbers_of(chunk.buffers()[1], "<i8" if pa.types.is_large_string(kind) else "<i4")
    return int(places[chunk.offset + len(chunk)] - places[chunk.offset])


def _plain(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    """Bring a column to float64, text or TIMESTAMP, exactly. Raises Refused with 400."""
    kind, where = values.type, f"columns.{column.name}"
    if kind == column.arrow_type and column.kind != "time":
        return values
    if column.kind == "number":
        try:
            return values.cast(pa.float64())
        except pa.ArrowInvalid:
            got = "a value beyond 2**53, where float64 skips whole numbers"
            raise Refused(400, where, got, "send float64, or text if it is a name") from None
    if not pa.types.is_timestamp(kind):
        return _text(values)
    try:
        # Finer times lose what is below a microsecond; coarser ones may have no microseconds.
        times = values.cast(TIMESTAMP, safe=kind.unit in COARSE)
        bounds = pc.min_max(times).as_py()
    except (pa.ArrowInvalid, OverflowError):
        change = "send times from year 1 to 9999"
        raise Refused(400, where, "a time that no calendar has", change) from None
    assert set(bounds) == {"min", "max"}
    return times


def _text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write a column out as text; the texts of a dictionary too."""
    if pa.types.is_dictionary(values.type):
        values = pa.chunked_array(
            [chunk.dictionary_decode() for chunk in values.chunks], values.type.value_type
        )
    return values.cast(pa.string())

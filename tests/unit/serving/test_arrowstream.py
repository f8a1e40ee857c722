"""Arrow streams of strangers: what they claim is held against what they are, before it costs."""

import json
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.contracts.rows import Contract
from app.serving.arrowstream import Bulk, read_stream
from app.serving.frames import MAX_FRAMES, RECORD_BATCH, FrameError, read_frames
from app.serving.messages import Refused

ROOT = Path(__file__).resolve().parents[3]
CONTRACT = Contract.model_validate(
    {
        "id": "key",
        "event_time": "at",
        "label": "late",
        "columns": [
            {"name": "key", "kind": "identifier", "feature": False},
            {"name": "at", "kind": "time", "feature": False},
            {"name": "weight", "kind": "number", "nullable": True},
            {"name": "colour", "kind": "category", "nullable": True},
        ],
    }
)
MAX_BYTES = 100_000


def rows(number: int = 3, **columns: Any) -> pa.Table:
    made: dict[str, Any] = {
        "key": [f"k{i}" for i in range(number)],
        "at": pa.array([10**15] * number, pa.timestamp("us", "UTC")),
    }
    return pa.table({**made, **columns})


def written(table: pa.Table, chunk: int = 1000, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return sink.getvalue().to_pybytes()


def read(body: bytes) -> Bulk:
    return read_stream(body, CONTRACT, 500, MAX_BYTES)


def refusal(body: bytes) -> Refused:
    with pytest.raises(Refused) as refused:
        read(body)
    return refused.value


def test_frames_tell_what_a_stream_holds() -> None:
    frames = read_frames(written(rows(25, colour=pa.array(["a"] * 25).dictionary_encode()), 10))
    assert [frame.num_rows for frame in frames if frame.kind == RECORD_BATCH] == [10, 10, 5]
    assert [frame.kind for frame in frames] == [1, 2, 3, 3, 3]


def test_columns_come_out_as_numbers_texts_and_times() -> None:
    table = rows(
        2,
        weight=pa.array([2**53, None], pa.int64()),
        colour=pa.DictionaryArray.from_arrays(pa.array([1, None], pa.int8()), ["red", None]),
    ).replace_schema_metadata({"request_id": "r1"})
    bulk = read(written(table))
    assert bulk.request_id == "r1"
    assert bulk.table.schema.types == [
        pa.string(),
        pa.timestamp("us", "UTC"),
        pa.float64(),
        pa.string(),
    ]
    assert bulk.table["weight"].to_pylist() == [2.0**53, None]
    assert bulk.table["colour"].to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: b"", "cut off"),
        (lambda s: b"x" * 100, "no Arrow IPC stream"),
        (lambda s: s[:-8], "cut off"),
        (lambda s: s[:-100], "are claimed where"),
        (lambda s: s + b"\0", "1 bytes behind the end"),
        (lambda s: s + s, "behind the end"),
        (lambda s: s[:-8] + s, "frame of kind 1"),
        (lambda s: struct.pack("<Ii", 0xFFFFFFFF, 0), "ends before its schema"),
        (lambda s: struct.pack("<Ii", 0xFFFFFFFF, -8) + s, "-8 bytes are claimed"),
        (lambda s: struct.pack("<Ii", 0xFFFFFFFF, 2**31 - 1) + s, "2147483647 bytes are claimed"),
    ],
)
def test_bytes_that_are_no_whole_stream_are_400(change: Any, told: str) -> None:
    refused = refusal(change(written(rows())))
    assert refused.status == 400
    assert told in str(refused)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_compressed_body_is_refused_before_it_is_unpacked(codec: str) -> None:
    body = written(rows(400, weight=pa.array([1.0] * 400)), compression=codec)
    assert "a compressed body" in str(refusal(body))


def with_rows(body: bytes, claimed: int) -> bytes:
    """Let the last batch claim another number of rows: its length, and that of each column."""
    return body.replace(struct.pack("<q", 3), struct.pack("<q", claimed))


def test_a_batch_that_claims_a_trillion_rows_is_refused_and_takes_no_memory() -> None:
    body = with_rows(written(rows(3, colour=pa.nulls(3))), 2**40)
    tracemalloc.start()
    refused = refusal(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (refused.status, refused.problem.where) == (413, "rows")
    assert peak < 2**20
    assert refusal(with_rows(written(rows()), -1)).status == 400


def test_a_body_of_negative_length_does_not_lead_back() -> None:
    body = written(rows())
    reader = pa.ipc.MessageReader.open_stream(body)
    assert reader.read_next_message().type == "schema"
    size = reader.read_next_message().body.size
    assert body.count(struct.pack("<q", size)) == 1
    back = body.replace(struct.pack("<q", size), struct.pack("<q", -size))
    assert f"-{size} bytes are claimed" in str(refusal(back))


def test_a_batch_that_claims_more_rows_than_its_buffers_hold_is_refused() -> None:
    assert refusal(with_rows(written(rows()), 400)).status == 400


def test_a_dictionary_that_unfolds_beyond_a_body_is_refused_before_it_does() -> None:
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int8()), ["x" * 50_000])
    refused = refusal(written(rows(400, colour=long)))
    assert refused.status == 413
    assert refused.problem.got.startswith("texts of 20")


def test_views_of_one_long_text_are_refused_before_they_are_written_out() -> None:
    view = pa.array(["y" * 50_000], pa.string_view())
    raw = np.frombuffer(view.buffers()[1], np.uint8)[:16]
    many = pa.Array.from_buffers(
        pa.string_view(), 400, [None, pa.py_buffer(np.tile(raw, 400)), view.buffers()[2]]
    )
    table = rows(400, colour=many)
    body = written(table)
    # What writes a stream may have copied the text for each view: either way it is too much.
    assert refusal(body).status == 413


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_a_buffer_that_ends_in_the_middle_of_a_number_is_read_as_far_as_it_counts(
    kind: pa.DataType,
) -> None:
    table = rows(3, colour=pa.array(["red", "green", "blue"], kind))
    # Something must come behind every text's buffer, or the body is too short for it.
    table = table.set_column(0, "key", table["key"].cast(kind)).select(["key", "colour", "at"])
    body = bytearray(written(table))
    size = {pa.string(): 16, pa.large_string(): 32, pa.string_view(): 48}[kind]
    # Where the buffers are listed: no nulls, and at the same place what says where the texts are.
    for place in range(len(body) - 32):
        first, none, second, told = struct.unpack_from("<qqqq", body, place)
        if (none, told) == (0, size) and first == second:
            struct.pack_into("<q", body, place + 24, size + 3)

    assert body.count(struct.pack("<q", size + 3)) == 2
    assert read(bytes(body)).table.to_pylist() == read(written(table)).table.to_pylist()


def test_an_extension_type_is_refused_before_its_code_runs() -> None:
    met: list[bytes] = []

    class Curious(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pa.string(), "tests.curious")

        def __arrow_ext_serialize__(self) -> bytes:
            return b"payload"

        @classmethod
        def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> "Curious":
            met.append(serialized)
            return cls()

    pa.register_extension_type(Curious())
    try:
        colours = pa.ExtensionArray.from_storage(Curious(), pa.array(["a", "b", "c"]))
        body = written(rows(colour=colours))
        met.clear()
        assert "an extension type" in str(refusal(body))
        assert met == []
        # It is the frames that keep it out: Arrow itself would have called it.
        pa.ipc.open_stream(body).read_all()
        assert met == [b"payload"]
    finally:
        pa.unregister_extension_type("tests.curious")


def test_too_many_frames_are_refused() -> None:
    table = rows(1)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for _ in range(MAX_FRAMES):
            writer.write_table(table)
    with pytest.raises(FrameError, match=f"more than {MAX_FRAMES} frames"):
        read_frames(sink.getvalue().to_pybytes())


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"weight": pa.array([1, 2, 2**53 + 1])}, "columns.weight: a value beyond 2**53"),
        ({"weight": pa.array([True, False, None])}, "columns.weight: type bool"),
        ({"weight": pa.array([[1.0], [2.0], [3.0]])}, "columns.weight: type list"),
        ({"colour": pa.array([1, 2, 3])}, "columns.colour: type int64"),
        ({"at": pa.array([2**60, 0, 0], pa.timestamp("s", "UTC"))}, "no calendar has"),
        ({"at": pa.array([2**62, 0, 0], pa.timestamp("us", "UTC"))}, "no calendar has"),
        ({"at": pa.array([1, 2, 3], pa.date32())}, "columns.at: type date32"),
        ({"_idempotency_key": ["a", "b", None]}, "1 keys that are no texts"),
        ({"_idempotency_key": [1, 2, 3]}, "columns._idempotency_key: type int64"),
    ],
)
def test_values_that_cannot_be_held_exactly_are_400(columns: dict[str, Any], told: str) -> None:
    refused = refusal(written(rows(**columns)))
    assert refused.status == 400
    assert told in str(refused)


def test_a_text_that_is_no_utf8_is_400() -> None:
    colour = pa.Array.from_buffers(
        pa.string(), 3, pa.array([b"a", b"\xff", b"c"], pa.binary()).buffers()
    )
    assert refusal(written(rows(colour=colour))).status == 400


def test_a_request_id_that_is_none_is_400() -> None:
    for wrong in (b"", b"\xff", b"a" * 201):
        table = rows().replace_schema_metadata({b"request_id": wrong})
        assert "request_id: " in str(refusal(written(table)))


def test_the_process_outlives_thousands_of_mutated_streams() -> None:
    command = [sys.executable, "-m", "tests.stream_mutations", "5", "4000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout)
    assert sum(outcomes.values()) == 4000
    # It mutates what matters: some come through, some fail in the frames, some in the columns.
    assert min(outcomes["read"], outcomes["body"], outcomes["columns"]) > 50

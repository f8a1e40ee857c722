"""Parquet files, good and hostile: what is refused as a whole, and what is read of the rest."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.data.files import open_pieces, read_piece, read_rows
from app.data.pieces import Limits, Rows, SourceError

MADE: list[bytes] = []


class Bomb(pa.ExtensionType):
    """A type whose metadata would be acted upon by whoever makes it again."""

    def __init__(self) -> None:
        super().__init__(pa.int64(), "tests.bomb")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"payload"

    @classmethod
    def __arrow_ext_deserialize__(cls, _storage: pa.DataType, serialized: bytes) -> "Bomb":
        MADE.append(serialized)
        return cls()


@pytest.fixture
def bomb() -> Iterator[Bomb]:
    kind = Bomb()
    pa.register_extension_type(kind)
    yield kind
    pa.unregister_extension_type("tests.bomb")


def read(path: Path, *names: str, limits: Limits = Limits()) -> Rows:  # noqa: B008
    pieces = open_pieces(str(path), "parquet", names, limits=limits)
    assert len(pieces) == 1
    return read_piece(pieces[0])


def test_an_arrow_extension_type_is_refused_and_never_made(tmp_path: Path, bomb: Bomb) -> None:
    array = pa.ExtensionArray.from_storage(bomb, pa.array([1, 2]))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "x": array}), path)
    MADE.clear()
    with pytest.raises(SourceError, match=r"a\.parquet: has a column of an Arrow extension type"):
        open_pieces(str(path), "parquet", ["id", "x"])
    assert MADE == []
    pq.read_table(path)  # Anyone else makes it: the test would see it.
    assert MADE


def test_a_nested_column_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a"], "x": [{"y": 1}], "z": [[1, 2]]}), path)
    with pytest.raises(SourceError, match=r"a\.parquet: nested column x, z; write each value"):
        open_pieces(str(path), "parquet", ["id", "x", "z"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PAR1", r"no whole parquet file, deliver it again \(it has 4 bytes\)"),
        (b"id,weight\n1,2\n1,2\n", r"it begins with b'id,w' and ends with b'1,2.n' instead of"),
        (b"PAR1" + b"\0" * 50 + b"\xff\xff\xff\x7fPAR1", "its footer claims 2,147,483,647 bytes"),
        (b"PAR1" + b"\0" * 50 + b"\x10\0\0\0PAR1", "no whole parquet file"),
        (b"PARE" + b"\0" * 50 + b"\x10\0\0\0PARE", "the file is encrypted"),
    ],
)
def test_a_file_that_is_no_parquet_says_what_it_is(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=says):
        open_pieces(str(path), "parquet", ["id"])


def test_a_file_without_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({}), path)
    with pytest.raises(SourceError, match="the file has no columns"):
        open_pieces(str(path), "parquet", ["id"])


def test_a_small_file_that_unpacks_to_far_more_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    schema = pa.schema([("id", pa.int64()), ("x", pa.float64())])
    rows = 4_000_000
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        table = pa.table({"id": pa.repeat(7, rows), "x": pa.repeat(0.5, rows)}, schema)
        for _ in range(8):
            writer.write_table(table, row_group_size=rows)
    assert path.stat().st_size < 300_000
    limits = Limits(max_unpacked_bytes=300_000_000)
    with pytest.raises(SourceError, match="bytes unpack to 512,000,000 or more"):
        open_pieces(str(path), "parquet", ["id", "x"], limits=limits)
    # An honest file of that size is far from the ratio.
    assert open_pieces(str(path), "parquet", ["id", "x"])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_one_huge_text_shared_by_many_rows_is_not_multiplied(
    tmp_path: Path, kind: pa.DataType
) -> None:
    path = tmp_path / "a.parquet"
    codes = pa.array([1] * 50_000 + [0], pa.int32())
    text = pa.array(["fine", "x" * 2_000_000]).cast(kind)
    pq.write_table(
        pa.table({"id": np.arange(50_001), "x": pa.DictionaryArray.from_arrays(codes, text)}), path
    )
    before = pa.total_allocated_bytes()
    rows = read(path, "id", "x")
    assert pa.total_allocated_bytes() - before < 50_000_000
    assert rows.positions.tolist() == [50_000]
    assert len(rows.broken) == 50_000
    assert rows.broken[0] == (0, "has 2,000,000 bytes in column x, at most 1,048,576 are read")


def test_large_texts_come_in_blocks_that_fit_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": np.arange(4000), "x": ["x" * 100_000] * 4000}), path)
    (piece,) = open_pieces(str(path), "parquet", ["id", "x"])
    sizes, positions = [], []
    for rows in read_rows(piece):
        sizes.append(rows.table.nbytes)
        positions += rows.positions.tolist()
    assert max(sizes) < 20_000_000
    assert positions == list(range(4000))


def test_columns_may_be_reordered_widened_and_of_any_layout(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table(
        {
            "weight": pa.array([1, None], pa.int16()),
            "depot": pa.array(["north", "south"]).dictionary_encode(),
            "id": pa.array(["a", "b"], pa.large_string()),
            "note": pa.array(["c", None], pa.string_view()),
        }
    )
    pq.write_table(table, path)
    rows = read(path, "id", "depot", "weight", "note")
    assert rows.table.select(["id", "depot", "weight", "note"]).to_pydict() == {
        "id": ["a", "b"],
        "depot": ["north", "south"],
        "weight": [1, None],
        "note": ["c", None],
    }


def test_every_byte_of_a_footer_may_be_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "x": [1.0, 2.0]}), path)
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    answers = []
    for place in range(len(content) - 8 - length, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        answers.append(answer(path))
    assert json.dumps(answers).count("refused") > 20


def answer(path: Path) -> str:
    """Read a file that may be damaged; anything but rows or a SourceError is a failure."""
    try:
        for piece in open_pieces(str(path), "parquet", ["id", "x"]):
            for _ in read_rows(piece):
                pass
    except SourceError:
        return "refused"
    return "read"

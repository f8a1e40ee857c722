import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.data import lines, pieces
from app.data.files import open_pieces, read_piece, read_rows
from app.data.lines import Unpacked, divide
from app.data.pieces import DEFAULT_LIMITS, Limits, Rows, SourceError, left_out_of

Write = Callable[[str, bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(name: str, content: bytes) -> str:
        file = tmp_path / name
        file.write_bytes(content)
        return str(file)

    return make


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few bytes, so that every cut is tried."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", 7)


def read_csv(path: str, names: tuple[str, ...] = ("id", "note")) -> Rows:
    (piece,) = open_pieces(path, "csv", names)
    return read_piece(piece)


def read_jsonl(path: str, limits: Limits = DEFAULT_LIMITS) -> Rows:
    (piece,) = open_pieces(path, "jsonl", ["id"], limits=limits)
    return read_piece(piece)


CELL = st.text(st.sampled_from('ab,"\n\r é'), max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), max_size=12))
def test_a_stream_cut_anywhere_gives_the_same_records(rows: list[tuple[str, str]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    content = written.getvalue().encode()
    for size in (1, 2, 3, 5, 1000):
        stream = Unpacked(_InBits(content, size), "text", len(content), DEFAULT_LIMITS)
        parts = list(divide(stream, 10_000, quotes=True))
        assert b"".join(part.content for part in parts) == content
        assert all(part.problem is None for part in parts)
        for part in parts:
            assert part.content.count(b'"') % 2 == 0


class _InBits:
    """A stream that gives a few bytes at a time."""

    def __init__(self, content: bytes, size: int) -> None:
        self._content, self._size = io.BytesIO(content), size

    def read(self, _size: int) -> bytes:
        return self._content.read(self._size)


@pytest.mark.usefixtures("small_blocks")
def test_a_cell_may_hold_line_ends_wherever_blocks_are_cut(write: Write) -> None:
    path = write("a.csv", b'id,note\n1,"one\ntwo, ""three"""\r\n2,5" pipe\r\n3,\n')
    rows = read_csv(path)
    assert rows.table.to_pydict() == {
        "id": ["1", "2", "3"],
        "note": ['one\ntwo, "three"', '5" pipe', None],
    }
    assert rows.positions.tolist() == [0, 1, 2]


@pytest.mark.usefixtures("small_blocks")
def test_a_quote_that_is_never_closed_costs_its_own_line(write: Write) -> None:
    # Read as it stands, the second quote of row 4 would close the first: rows 3 and 4 were gone.
    rows = read_csv(write("a.csv", b'id,note\n1,fine\n2,"open\n3,fine\n4,"closed"\n5,\n'))
    assert rows.table["id"].to_pylist() == ["1", "3", "4", "5"]
    assert [line for line, _ in rows.broken] == [1]
    rows = read_csv(write("b.csv", b'id,note\n1,fine\n2,"open\n3,fine\n4,fine\n'))
    assert rows.table["id"].to_pylist() == ["1", "3", "4"]
    assert rows.positions.tolist() == [0, 2, 3]
    ((line, problem),) = rows.broken
    assert line == 1
    assert problem.startswith("opens a quote that is not closed")


def test_a_line_too_long_to_hold_is_broken_and_the_next_is_read(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(pieces, "BLOCK_BYTES", 1000)
    limits = Limits(max_cell_bytes=2000)
    content = b"id,note\n1,a\n2," + b"x" * 30_000 + b"\n3,b\n"
    (piece,) = open_pieces(write("a.csv", content), "csv", ["id", "note"], limits=limits)
    rows = read_piece(piece)
    assert rows.table["id"].to_pylist() == ["1", "3"]
    assert [(line, what[:14]) for line, what in rows.broken] == [(1, "is a line of m")]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_huge_cell_breaks_its_row_and_no_other(write: Write, kind: str) -> None:
    huge = "x" * 10_000_000
    if kind == "csv":
        rows = read_csv(write("a.csv", f"id,note\n1,a\n2,{huge}\n3,b\n".encode()))
        kept = rows.table["id"].to_pylist()
    else:
        notes = enumerate(["a", huge, "b"])
        content = "\n".join(json.dumps({"id": i, "note": note}) for i, note in notes)
        rows = read_jsonl(write("a.jsonl", content.encode()))
        kept = [json.loads(row)["id"] + 1 for row in rows.table["__object"].to_pylist()]
        kept = [str(each) for each in kept]
    assert kept == ["1", "3"]
    ((line, problem),) = rows.broken
    assert line == 1
    assert "in column note" in problem


def test_a_block_is_no_larger_than_memory_allows(write: Write) -> None:
    cell = "x" * 900_000
    path = write("a.csv", ("id,note\n" + f"1,{cell}\n" * 40).encode())
    (piece,) = open_pieces(path, "csv", ["id", "note"])
    sizes = [rows.table.nbytes for rows in read_rows(piece)]
    assert len(sizes) > 3
    assert max(sizes) < 2 * pieces.BLOCK_BYTES


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "is no JSON"),
        ("[1, 2]", "must be a JSON object, got list"),
        ("null", "must be a JSON object, got NoneType"),
        ('"text"', "must be a JSON object, got str"),
        ('{"id": NaN}', "is no JSON"),
        ('{"id": "\\ud800"}', "is no JSON"),
        ('{"id": 1} {"id": 2}', "is no JSON"),
        ("[" * 5000, "is no JSON"),
    ],
)
def test_a_line_that_is_no_json_object_is_broken_with_its_position(
    write: Write, line: str, problem: str
) -> None:
    rows = read_jsonl(write("a.jsonl", f'{{"id": 1}}\n{line}\n\n{{"id": 2}}'.encode()))
    assert rows.table["__object"].to_pylist() == ['{"id": 1}', '{"id": 2}']
    assert rows.positions.tolist() == [0, 2]
    ((place, found),) = rows.broken
    assert place == 1
    assert found.startswith(problem)


def test_bytes_that_are_no_text_break_their_line(write: Write) -> None:
    rows = read_jsonl(write("a.jsonl", b'{"id": 1}\n{"id": "\xff"}\n{"id": 2}\n'))
    assert rows.table.num_rows == 2
    assert [line for line, _ in rows.broken] == [1]


def test_a_byte_order_mark_is_no_part_of_the_first_line(write: Write) -> None:
    assert read_jsonl(write("a.jsonl", b'\xef\xbb\xbf{"id": 1}\n')).broken == []
    assert read_csv(write("a.csv", b"\xef\xbb\xbfid,note\n1,a\n")).table.num_rows == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_packed_file_is_read_like_a_plain_one(write: Write, kind: str) -> None:
    text = b"id,note\n1,a\n2,b\n" if kind == "csv" else b'{"id": 1}\n{"id": 2}\n'
    read = read_csv if kind == "csv" else read_jsonl
    packed = read(write(f"a.{kind}.gz", gzip.compress(text)))
    assert packed.table.equals(read(write(f"a.{kind}", text)).table)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_small_file_that_unpacks_to_gigabytes_is_refused(write: Write, kind: str) -> None:
    line = b'1,"a"\n' if kind == "csv" else b'{"id": 1}\n'
    packed = gzip.compress(b"id,note\n" * (kind == "csv") + line * 3_000_000)
    path = write(f"bomb.{kind}.gz", packed)
    assert len(packed) < 100_000
    limits = Limits(max_unpacked_bytes=10_000_000)
    says = rf"bomb\.{kind}\.gz: .* bytes unpack to .*max_unpacked_mb"
    with pytest.raises(SourceError, match=says):
        read_all(path, kind, limits)


def read_all(path: str, kind: str, limits: Limits) -> None:
    for piece in open_pieces(path, kind, ["id", "note"], limits=limits):  # type: ignore[arg-type]
        for _ in read_rows(piece):
            pass


def test_a_packed_file_cut_off_is_a_source_error(write: Write) -> None:
    packed = gzip.compress(b"id,note\n" + b"1,a\n" * 100_000)
    path = write("a.csv.gz", packed[: len(packed) // 2])
    with pytest.raises(SourceError, match=r"a\.csv\.gz"):
        read_csv(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00", "no CSV in UTF-8"),
        (b"\n\n", "the file has no columns"),
        (b'"id\n1,2\n', "no CSV in UTF-8"),
        (b"{}", "no column id, note; unknown column {}"),
    ],
)
def test_what_is_no_csv_is_refused(write: Write, content: bytes, problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        read_csv(write("a.csv", content))


def test_arrow_sees_no_type_but_text(write: Write) -> None:
    rows = read_csv(write("a.csv", b"id,note\n1,2024-03-01\n,true\n"))
    assert set(rows.table.schema.types) == {pa.string()}


def test_a_forbidden_key_of_a_json_object_is_in_no_block_and_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(
        '{"id": "1", "passport": "X99"}\n{"id": "2"}\nX98\n{"id": "3", "iban": "X97"}\n'
    )
    forbidden = ("passport", "iban", "visa")
    (piece,) = open_pieces(str(file), "jsonl", ["id"], forbidden=forbidden)
    (rows,) = read_rows(piece)
    assert rows.table["__object"].to_pylist() == ['{"id":"1"}', '{"id": "2"}', '{"id":"3"}']
    assert rows.left_out == left_out_of(rows.with_places()) == ("iban", "passport")
    assert "X9" not in str(rows)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_quotes_and_line_ends_are_found_with_any_delimiter(tmp_path: Path, delimiter: str) -> None:
    file = tmp_path / "a.csv"
    rows = ["id*note", '1*"a* ""b""\nc"', '2*"x, y"', "3*plain"]
    file.write_text("\n".join(rows).replace("*", delimiter) + "\n")
    (piece,) = open_pieces(str(file), "csv", ["id", "note"], delimiter=delimiter)
    notes = [f'a{delimiter} "b"\nc', "x, y", "plain"]
    assert read_piece(piece).table["note"].to_pylist() == notes

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from app.contracts.rows import Contract
from app.data.files import FileKind, SourceError, find_files, open_pieces, read_piece

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]


@pytest.fixture
def parquet(tmp_path: Path, parcel: Make, parcel_table: MakeTable) -> Path:
    file = tmp_path / "parcels.parquet"
    pq.write_table(parcel_table([parcel(i) for i in range(10)]), file, row_group_size=4)
    return file


def test_a_path_a_folder_and_a_glob_name_files(parquet: Path) -> None:
    for given in (parquet, parquet.parent, parquet.parent / "*.parquet"):
        assert [found.path for found in find_files(str(given), "parquet")] == [str(parquet)]


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nothing\.parquet: no such parquet file"):
        find_files(str(tmp_path / "nothing.parquet"), "parquet")


def test_pieces_are_the_whole_file_with_positions(parquet: Path, parcels: Contract) -> None:
    pieces = open_pieces(str(parquet), "parquet", parcels.schema.names)
    read = [read_piece(piece) for piece in pieces]
    assert [rows.positions.tolist() for rows in read] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    whole = pa.concat_tables([rows.table for rows in read])
    assert whole.equals(pq.read_table(parquet))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_parquet_file_cut_off_is_refused(parquet: Path, parcels: Contract, share: float) -> None:
    content = parquet.read_bytes()
    parquet.write_bytes(content[: int(share * len(content))])
    with pytest.raises(SourceError, match=r"parcels\.parquet: .*again"):
        open_pieces(str(parquet), "parquet", parcels.schema.names)


def test_damage_inside_a_parquet_file_is_a_source_error(parquet: Path, parcels: Contract) -> None:
    pieces = open_pieces(str(parquet), "parquet", parcels.schema.names)
    content = bytearray(parquet.read_bytes())
    content[4:200] = b"\xff" * 196
    parquet.write_bytes(content)
    with pytest.raises(SourceError, match="row group 0 cannot be read, deliver the file again"):
        read_piece(pieces[0])


def test_a_renamed_column_is_refused_with_both_names(parquet: Path, parcels: Contract) -> None:
    pq.write_table(pq.read_table(parquet).rename_columns({"weight": "mass"}), parquet)
    with pytest.raises(SourceError, match="no column weight; unknown column mass; was one renamed"):
        open_pieces(str(parquet), "parquet", parcels.schema.names)


def write_csv(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "parcels.csv"
    file.write_text(text)
    return file


def test_csv_cells_are_text_and_only_an_empty_one_is_null(tmp_path: Path) -> None:
    file = write_csv(tmp_path, 'id,weight\n007,3\n8,\n9,NA\n10,""\n')
    (piece,) = open_pieces(str(file), "csv", ["id", "weight"])
    assert read_piece(piece).table.to_pydict() == {
        "id": ["007", "8", "9", "10"],
        "weight": ["3", None, "NA", ""],
    }


def test_a_csv_line_with_another_number_of_fields_is_kept_as_broken(tmp_path: Path) -> None:
    file = write_csv(tmp_path, "id,weight\n1,3\n2\n3,4,5\n4,6\n")
    (piece,) = open_pieces(str(file), "csv", ["id", "weight"])
    rows = read_piece(piece)
    assert rows.table["id"].to_pylist() == ["1", "4"]
    assert rows.positions.tolist() == [0, 3]
    assert rows.broken == [
        (1, "has 1 fields instead of 2"),
        (2, "has 3 fields instead of 2"),
    ]
    assert rows.with_places()["__position"].to_pylist() == [0, 3, 1, 2]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the file is empty"),
        ("id,mass\n1,2\n", "no column weight; unknown column mass"),
        ("id,weight,weight\n1,2,3\n", "twice weight"),
    ],
)
def test_a_csv_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SourceError, match=problem):
        open_pieces(str(write_csv(tmp_path, text)), "csv", ["id", "weight"])


def test_a_csv_in_another_encoding_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "parcels.csv"
    file.write_bytes("id,größe\n".encode("utf-16"))
    with pytest.raises(SourceError, match="UTF-8"):
        open_pieces(str(file), "csv", ["id"])


def test_a_csv_line_with_bad_bytes_is_broken_and_the_others_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "parcels.csv"
    file.write_bytes(b"id,weight\n" + b"1,2\n" * 50_000 + b"1,\xff\xfe\n")
    (piece,) = open_pieces(str(file), "csv", ["id", "weight"])
    rows = read_piece(piece)
    assert rows.table.num_rows == 50_000
    assert rows.broken == [(50_000, "is no text in UTF-8, in column weight")]


def test_a_file_with_columns_and_no_rows_is_a_source_of_none(tmp_path: Path) -> None:
    (piece,) = open_pieces(str(write_csv(tmp_path, "id,weight\n")), "csv", ["id", "weight"])
    assert read_piece(piece).table.num_rows == 0


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_forbidden_column_is_left_out_unread_and_named(
    tmp_path: Path, parcel: Make, parcel_table: MakeTable, kind: FileKind
) -> None:
    rows = parcel_table([parcel(i, rain=1.0) for i in range(3)])
    table = rows.append_column("passport", pa.array(["X99", None, "X98"]))
    file = tmp_path / f"parcels.{kind}"
    (pq.write_table if kind == "parquet" else pacsv.write_csv)(table, file)
    (piece,) = open_pieces(str(file), kind, rows.column_names, forbidden={"passport", "iban"})
    read = read_piece(piece)
    assert piece.left_out == ("passport",)
    assert read.table.column_names == rows.column_names
    assert read.table.num_rows == 3
    with pytest.raises(SourceError, match="unknown column passport"):
        open_pieces(str(file), kind, rows.column_names)


def test_a_broken_line_of_a_file_with_a_forbidden_column_is_found_and_not_told(
    tmp_path: Path,
) -> None:
    file = write_csv(tmp_path, "id,passport\n1,X99\n2,X98,X97\n3,X96\n")
    (piece,) = open_pieces(str(file), "csv", ["id"], forbidden={"passport"})
    read = read_piece(piece)
    assert read.table.to_pydict() == {"id": ["1", "3"]}
    assert read.broken == [(1, "has 3 fields instead of 2")]

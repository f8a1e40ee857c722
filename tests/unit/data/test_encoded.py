"""Encoded files: every row once, encoded as the encoder does or refused with its reasons."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from pydantic import SecretBytes

from app.contracts.rows import Column, Contract
from app.data.encoded import Work, count_pieces, count_rows, encode_pieces
from app.data.features import Encoder
from app.data.files import Piece, SourceError
from app.data.inputs import find_pieces
from app.data.statistics import Statistics
from app.data.validation import validate
from app.sections import FeaturesConfig
from app.security.privacy import Pseudonymiser

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
KEY = Pseudonymiser(SecretBytes(b"0123456789abcdef"))
FEATURES = FeaturesConfig(num_bins=4, min_category_count=1)
NUM_ROWS, GROUP = 230, 60


@pytest.fixture
def work(tmp_path: Path, parcels: Contract) -> Work:
    return Work(parcels, KEY, tmp_path / "into")


@pytest.fixture
def table(parcel: Make, parcel_table: MakeTable) -> pa.Table:
    """Rows of which every 23rd is over the limit."""
    weights = [99.0 if i % 23 == 5 else i % 17 + 0.25 for i in range(NUM_ROWS)]
    rows = [
        parcel(i, weight=w, rain=None if i % 3 else i / 7, depot="north" if i % 5 else "south")
        for i, w in enumerate(weights)
    ]
    return parcel_table(rows)


@pytest.fixture
def pieces(tmp_path: Path, parcels: Contract, table: pa.Table) -> list[Piece]:
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=GROUP)
    return find_pieces(str(tmp_path / "rows.parquet"), parcels)


def fitted(table: pa.Table, contract: Contract) -> Encoder:
    accepted = validate(table, contract, pseudonymiser=KEY).accepted
    return Encoder.fit(Statistics.collect(accepted, contract), FEATURES)


def encoded(work: Work, pieces: list[Piece], encoder: Encoder) -> pa.Table:
    return pa.concat_tables([pq.read_table(work.encoded_of(p, encoder.digest)) for p in pieces])


def test_an_encoder_fitted_piece_by_piece_is_that_of_the_whole_table(
    work: Work, pieces: list[Piece], table: pa.Table
) -> None:
    encoder = Encoder.fit(count_pieces(pieces, work), FEATURES)
    assert encoder.to_json() == fitted(table, work.contract).to_json()


@pytest.mark.parametrize("judged_before", [True, False])
def test_every_row_is_encoded_or_refused_with_its_reason(
    work: Work, pieces: list[Piece], table: pa.Table, judged_before: bool
) -> None:
    encoder = fitted(table, work.contract)
    if judged_before:
        count_pieces(pieces, work)

    encode_pieces(pieces, encoder, work)

    judged = validate(table, work.contract, pseudonymiser=KEY)
    rows = encoded(work, pieces, encoder)
    assert rows["parcel"].to_pylist() == judged.accepted["parcel"].to_pylist()
    assert rows.schema.names == ["parcel", "promised", *encoder.columns(judged.accepted)]
    for name, values in encoder.columns(judged.accepted).items():
        np.testing.assert_array_equal(rows[name], values)
    refused = pa.concat_tables([pq.read_table(work.refused_of(piece)) for piece in pieces])
    assert refused["position"].to_pylist() == list(range(5, NUM_ROWS, 23))
    assert set(refused["reasons"].combine_chunks().flatten().to_pylist()) == {
        "weight must be in 0..40, got 99.0"
    }
    assert "sender 2" not in refused["row"].to_pylist()[0]
    assert refused["file"].unique().to_pylist() == ["rows.parquet"]
    counted = [count_rows(files.iterdir()) for files in sorted(work.into.iterdir())]
    assert counted == [len(refused), NUM_ROWS - len(refused)]


def test_a_second_run_does_only_what_is_missing_and_leaves_the_rest(
    work: Work, pieces: list[Piece], table: pa.Table
) -> None:
    encoder = fitted(table, work.contract)
    encode_pieces(pieces, encoder, work)
    kept, lost, *_ = [work.encoded_of(piece, encoder.digest) for piece in pieces]
    before, written = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    encode_pieces(pieces, encoder, work)
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == written


def test_other_limits_another_key_and_another_encoder_go_to_other_files(
    work: Work, pieces: list[Piece], table: pa.Table
) -> None:
    encoder = fitted(table, work.contract)
    other = encoder.model_copy(update={"numbers": ()})
    stricter = work.contract.model_copy(update={"lead_minutes": 1.0})
    works = [
        work,
        Work(stricter, KEY, work.into),
        Work(work.contract, Pseudonymiser(SecretBytes(b"another key of 16")), work.into),
    ]
    names = [each.encoded_of(pieces[0], encoder.digest) for each in works]
    names += [work.encoded_of(pieces[0], other.digest), work.encoded_of(pieces[1], encoder.digest)]
    assert len(set(names)) == len(names)


def test_a_file_that_changed_after_it_was_judged_is_refused(
    tmp_path: Path, work: Work, pieces: list[Piece], table: pa.Table
) -> None:
    count_pieces(pieces, work)
    pq.write_table(table.slice(0, 40), tmp_path / "rows.parquet")
    with pytest.raises(SourceError, match=r"rows\.parquet: changed while it was read"):
        encode_pieces(pieces[:1], fitted(table, work.contract), work)


@pytest.mark.parametrize("judged_before", [True, False])
def test_broken_lines_of_csv_are_refused_at_their_place(
    tmp_path: Path, work: Work, table: pa.Table, judged_before: bool
) -> None:
    path = tmp_path / "rows.csv"
    pacsv.write_csv(table.slice(0, 8), path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], "one,two", *lines[3:]]) + "\n")
    pieces = find_pieces(str(path), work.contract)
    encoder = fitted(table, work.contract)
    if judged_before:
        count_pieces(pieces, work)
    encode_pieces(pieces, encoder, work)
    refused = pq.read_table(work.refused_of(pieces[0]))
    assert refused["position"].to_pylist() == [2, 6]
    assert refused["reasons"].to_pylist()[0] == ["row has 2 fields instead of 6"]
    kept = ["P0", "P1", "P2", "P3", "P4", "P6", "P7"]
    assert encoded(work, pieces, encoder)["parcel"].to_pylist() == kept


def test_a_personal_category_is_checked_and_never_encoded(tmp_path: Path) -> None:
    contract = Contract(
        id="i",
        event_time="t",
        label="y",
        columns=(
            Column(name="i", kind="identifier", feature=False),
            Column(name="t", kind="time", feature=False),
            Column(name="who", kind="category", privacy="personal"),
        ),
    )
    who = pa.array(["ann", "bob", None, "eve"]).dictionary_encode()
    times = pa.array([0] * 4, contract.schema.field("t").type)
    pq.write_table(pa.table({"i": list("abcd"), "t": times, "who": who}), tmp_path / "r.parquet")
    pieces = find_pieces(str(tmp_path / "r.parquet"), contract)
    judged, fresh = (Work(contract, KEY, tmp_path / name) for name in ("judged", "fresh"))
    encoder = Encoder.fit(count_pieces(pieces, judged), FEATURES)
    assert encoder.categories == ()
    for work in (judged, fresh):
        encode_pieces(pieces, encoder, work)
        rows = encoded(work, pieces, encoder)
        assert rows.num_rows == 3
        assert "who" not in rows.column_names


def test_hashed_values_are_written_as_the_network_reads_them(
    tmp_path: Path, parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    columns = [
        Column(name="depot", kind="category") if column.name == "depot" else column
        for column in parcels.columns
    ]
    contract = parcels.model_copy(update={"columns": tuple(columns)})
    table = parcel_table([parcel(i, depot=f"depot {i // 2}") for i in range(GROUP)])
    pq.write_table(table, tmp_path / "rows.parquet")
    pieces = find_pieces(str(tmp_path / "rows.parquet"), contract)
    work = Work(contract, KEY, tmp_path)
    features = FeaturesConfig(num_bins=4, min_category_count=3, hash_buckets=5)

    encoder = Encoder.fit(count_pieces(pieces, work), features)
    encode_pieces(pieces, encoder, work)

    rows = encoded(work, pieces, encoder)
    depot = next(i for i, c in enumerate(encoder.categories) if c.name == "depot")
    assert encoder.categories[depot].num_buckets == 5
    assert rows.schema.field("depot").type == pa.int32()
    accepted = validate(table, contract, pseudonymiser=KEY).accepted
    expected = encoder.transform(accepted).categories[:, depot]
    np.testing.assert_array_equal(rows["depot"].to_numpy(), expected)
    assert set(expected.tolist()) == set(range(2, 7))
    assert work.encoder_of(pieces, features) != work.encoder_of(pieces, FEATURES)

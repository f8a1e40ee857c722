"""Scoring files: every row comes out once, with the bundle's own probability or with reasons."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from pydantic import SecretBytes

from app.config import Config
from app.data.files import SourceError
from app.data.inputs import find_pieces
from app.data.tables import Tables
from app.security.privacy import Pseudonymiser
from app.serving.scoring import Scoring, score_blocks, score_piece, score_schema, scores_of
from app.serving.sinks import ParquetSink
from tests.serving_world import make_bundle, make_table


@pytest.fixture
def scoring(flights: Config) -> Scoring:
    contract = flights.contract
    key = SecretBytes(b"0123456789abcdef")
    bundle, tables = make_bundle(contract, seed=1), Tables(flights.tables_path, contract)
    return Scoring(contract, bundle, Pseudonymiser(key), "v" * 64, tables)


def test_every_row_group_is_scored_as_the_bundle_scores_the_rows(
    tmp_path: Path, scoring: Scoring
) -> None:
    table = make_table(scoring.contract, 50)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=20)

    pieces = find_pieces(str(tmp_path / "rows.parquet"), scoring.contract)
    scores = pa.concat_tables([score_piece(piece, scoring) for piece in pieces])

    assert len(pieces) == 3
    assert scores["position"].to_pylist() == list(range(50))
    assert scores["row_id"].to_pylist() == table["flight_id"].to_pylist()
    np.testing.assert_allclose(scores["probability"], scoring.bundle.predict(table), atol=1e-6)
    assert set(scores["version"].to_pylist()) == {"v" * 64}


def test_rows_that_cannot_be_scored_keep_their_place_and_say_why(
    tmp_path: Path, scoring: Scoring
) -> None:
    table = make_table(scoring.contract, 4)
    distances = pa.array([500.0, -1.0, 700.0, None])
    place = table.schema.get_field_index("distance")
    table = table.set_column(place, "distance", distances)
    pacsv.write_csv(table, tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open("a") as file:
        file.write("too,few,fields\n")

    [piece] = find_pieces(str(tmp_path / "rows.csv"), scoring.contract)
    scores = score_piece(piece, scoring).to_pylist()

    assert [row["probability"] is None for row in scores] == [False, True, False, True, True]
    assert [row["position"] for row in scores] == [0, 1, 2, 3, 4]
    assert "distance" in scores[1]["reasons"][0]
    assert "has 3 fields instead of" in scores[4]["reasons"][0]


def test_a_file_that_was_cut_in_half_is_refused_before_anything_is_scored(
    tmp_path: Path, scoring: Scoring
) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(make_table(scoring.contract, 50), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(SourceError, match=r"rows\.parquet: no whole parquet file"):
        find_pieces(str(path), scoring.contract)


def test_written_scores_are_counted_and_named_by_what_they_were_made_from(
    tmp_path: Path, scoring: Scoring
) -> None:
    pq.write_table(make_table(scoring.contract, 5), tmp_path / "rows.parquet")
    [piece] = find_pieces(str(tmp_path / "rows.parquet"), scoring.contract)
    sink, name = ParquetSink(str(tmp_path / "scores")), scores_of(piece, scoring.version)
    schema = score_schema(scoring.contract)

    sink.prepare(schema)
    counts = sink.write(name, schema, score_blocks(piece, scoring))

    assert counts == sink.found([name, "other"])[name] == (5, 0)
    assert [file.name for file in (tmp_path / "scores").iterdir()] == [f"{name}.parquet"]
    assert scores_of(piece, "w" * 64) != name

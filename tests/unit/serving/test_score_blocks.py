"""Pieces larger than a block: nothing is held whole, and what comes twice is still found."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pydantic import SecretBytes

from app.config import Config
from app.data.files import SourceError
from app.data.inputs import find_pieces
from app.data.sources import open_source
from app.data.tables import Tables
from app.security.privacy import Pseudonymiser
from app.serving import scoring as scoring_module
from app.serving.scoredsource import scoring_of
from app.serving.scorework import in_tasks
from app.serving.scoring import Scoring, score_blocks, score_piece
from tests.serving_world import make_bundle, make_table


@pytest.fixture
def scoring(flights: Config) -> Scoring:
    contract = flights.contract
    secret = Pseudonymiser(SecretBytes(b"0123456789abcdef"))
    bundle, tables = make_bundle(contract, seed=1), Tables(flights.tables_path, contract)
    return Scoring(contract, bundle, secret, "v" * 64, tables)


def test_a_large_piece_is_scored_a_block_at_a_time(
    tmp_path: Path, scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring_module, "BLOCK_ROWS", 40)
    table = make_table(scoring.contract, 100)
    # Row 70 and row 99 have ids of earlier blocks, row 71 one that only a refused row had.
    ids = table["flight_id"].to_pylist()
    ids[70], ids[99], ids[71] = ids[3], ids[3], ids[5]
    distances = table["distance"].to_pylist()
    distances[5] = -1.0
    for name, values in (("flight_id", ids), ("distance", distances)):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values))
    pq.write_table(table, tmp_path / "rows.parquet")
    (piece,) = find_pieces(str(tmp_path / "rows.parquet"), scoring.contract)

    blocks = list(score_blocks(piece, scoring))

    assert [block.num_rows for block in blocks] == [40, 40, 20]
    scores = pa.concat_tables([block.cast(_plain(block.schema)) for block in blocks])
    assert scores["position"].to_pylist() == list(range(100))
    refused = {row["position"]: row["reasons"] for row in scores.to_pylist() if row["reasons"]}
    assert set(refused) == {5, 70, 99}
    assert "flight_id is given more than once; the first row is kept" in refused[70] == refused[99]
    good = [i for i in range(100) if i not in refused]
    expected = scoring.bundle.predict(table.take(good))
    np.testing.assert_allclose(
        scores["probability"].drop_null().to_numpy(), expected, rtol=0, atol=1e-6
    )


def _plain(schema: pa.Schema) -> pa.Schema:
    return pa.schema(
        [f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in schema]
    )


def test_json_lines_are_scored_strictly(tmp_path: Path, scoring: Scoring, flights: Config) -> None:
    rows = make_table(scoring.contract, 3).to_pylist()
    rows[1]["distance"] = "far"
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row, default=lambda time: time.isoformat()) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    (delivery,) = open_source(scoring_of(flights, str(path))).deliveries
    scores = score_piece(delivery.pieces[0], scoring).to_pylist()
    assert [row["probability"] is None for row in scores] == [False, True, False]
    assert "distance" in scores[1]["reasons"][0]


def test_of_a_delta_table_only_the_files_of_its_version_are_rows(
    tmp_path: Path, flights: Config
) -> None:
    folder, rows = tmp_path / "table", make_table(flights.contract, 9)
    write_deltalake(folder, rows.slice(0, 5))
    write_deltalake(folder, rows.slice(5), mode="overwrite")
    assert len(list(folder.glob("*.parquet"))) == 2
    config = scoring_of(flights, str(folder))
    assert config.source.kind == "delta"
    (delivery,) = open_source(config).deliveries
    names = [file.rpartition("/")[2] for file in DeltaTable(folder).file_uris()]
    assert [delivery.name.rpartition("/")[2]] == names


@pytest.mark.parametrize(
    ("rows", "kind", "expected"),
    [
        ("a.csv.gz", None, {"kind": "csv", "events": "a.csv.gz"}),
        ("s3://b/a.NDJSON?region=x", None, {"kind": "jsonl"}),
        ("folder", None, {"kind": "parquet", "events": "folder"}),
        ("folder", "csv", {"kind": "csv"}),
        ("shop.orders", "sql", {"kind": "sql", "events": "shop.orders", "query": None}),
        ("SELECT * FROM a", "sql", {"query": "SELECT * FROM a", "events": None}),
    ],
)
def test_rows_are_of_the_kind_that_is_named_or_seen(
    flights: Config, rows: str, kind: str | None, expected: dict[str, Any]
) -> None:
    named = {"url": "sqlite:///shop.sqlite", "labels": None, "cursor": "id"}
    config = flights.model_copy(update={"source": flights.source.model_copy(update=named)})
    source = scoring_of(config, rows, kind).source
    assert {name: getattr(source, name) for name in expected} == expected
    assert source.labels is None
    assert source.cursor == "id"


def test_without_rows_it_is_the_source_itself_without_its_outcomes(flights: Config) -> None:
    source = flights.source.model_copy(
        update={"kind": "parquet", "events": "rows", "labels": "known"}
    )
    config = flights.model_copy(update={"source": source})
    assert scoring_of(config, None).source == source.model_copy(update={"labels": None})
    with pytest.raises(ValueError, match="name the rows"):
        scoring_of(config, None, "sql")
    with pytest.raises(ValueError, match="kind xml: is none of"):
        scoring_of(config, "rows", "xml")


def test_a_file_that_changes_while_it_is_read_is_no_file_to_trust(
    tmp_path: Path, scoring: Scoring
) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(make_table(scoring.contract, 5), path)
    (piece,) = find_pieces(str(path), scoring.contract)
    path.write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(SourceError, match="no whole parquet file"):
        score_piece(piece, scoring)
    with pytest.raises(SourceError, match="was the file moved"):
        score_piece(replace(piece, path=str(tmp_path / "gone.parquet")), scoring)


def test_tasks_divide_pieces_in_order_and_none_is_lost() -> None:
    for number in (0, 1, 2, 15, 40, 1000):
        tasks = in_tasks(range(number), 2)  # type: ignore[arg-type]  # What they are is not asked.
        assert [piece for task in tasks for piece in task] == list(range(number))
        assert max(map(len, tasks), default=0) <= 16

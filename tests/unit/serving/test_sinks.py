"""Sinks: a piece is in once and whole, whoever brings it; positions of growing tables are kept."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from sqlalchemy import create_engine, text

from app.config import Config
from app.data.deliveries import Position, done_mark, first_mark
from app.data.pieces import SourceError
from app.serving.deltasink import DeltaSink
from app.serving.scoresinks import open_sink
from app.serving.scoring import score_schema
from app.serving.sinks import ParquetSink, Sink, note_begun, note_done, position_in
from app.serving.sqlsink import SqlSink

Make = Callable[[], tuple[Sink, Callable[[], list[dict[str, object]]]]]
VERSION = "ab" * 32


@pytest.fixture
def schema(flights: Config) -> pa.Schema:
    return score_schema(flights.contract)


@pytest.fixture(params=["parquet", "delta", "sql"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Open a sink of a kind, and a way to read what is in it."""
    url = f"sqlite:///{tmp_path}/scores.sqlite"

    def read_sql() -> list[dict[str, object]]:
        with create_engine(url).connect() as connection:
            return [dict(row._mapping) for row in connection.execute(text("SELECT * FROM scores"))]

    def opened() -> tuple[Sink, Callable[[], list[dict[str, object]]]]:
        folder = tmp_path / "scores"
        if request.param == "sql":
            monkeypatch.setenv("SCORES_URL", url)
            return open_sink("scores", "sql", "SCORES_URL"), read_sql
        sink = open_sink(str(folder), request.param)
        if request.param == "delta":
            return sink, lambda: DeltaTable(folder).to_pyarrow_table().to_pylist()
        return sink, lambda: [
            row for path in sorted(folder.glob("[!_]*")) for row in pq.read_table(path).to_pylist()
        ]

    return opened


def blocks(schema: pa.Schema, first: int = 0) -> Iterator[pa.Table]:
    """Two blocks of scores: three rows, one of them refused."""
    rows = [
        {"file": "f", "position": first + i, "row_id": f"r{first + i}", "probability": 0.5,
         "reasons": [], "version": VERSION} for i in range(2)
    ]  # fmt: skip
    refused = {**rows[0], "position": first + 2, "row_id": None, "probability": None}
    yield pa.Table.from_pylist(rows, schema)
    yield pa.Table.from_pylist([{**refused, "reasons": ["row is odd"]}], schema)


def test_a_piece_that_comes_twice_is_in_once(make: Make, schema: pa.Schema) -> None:
    sink, read = make()
    assert sink.found(["a-0", "b-0"]) == {}
    sink.prepare(schema)

    assert sink.write("a-0", schema, blocks(schema)) == (2, 1)
    assert sink.write("a-0", schema, blocks(schema)) == (2, 1)
    assert sink.write("b-0", schema, blocks(schema, 3)) == (2, 1)

    again, _ = make()
    again.prepare(schema)
    assert again.found(["a-0", "b-0", "c-0"]) == {"a-0": (2, 1), "b-0": (2, 1)}
    rows = sorted(read(), key=lambda row: row["position"])
    assert [row["position"] for row in rows] == list(range(6))
    assert [row["probability"] for row in rows] == [0.5, 0.5, None] * 2
    assert all("row is odd" in row["reasons"] for row in (rows[2], rows[5]))
    assert {row["version"] for row in rows} == {VERSION}


def test_two_who_bring_the_same_pieces_at_once_leave_each_once(
    make: Make, schema: pa.Schema
) -> None:
    sink, read = make()
    sink.prepare(schema)
    names = [f"{i}-0" for i in range(6)] * 2
    with ThreadPoolExecutor(4) as pool:
        brought = [
            pool.submit(sink.write, name, schema, blocks(schema, 3 * int(name[0])))
            for name in names
        ]
        assert {each.result() for each in brought} == {(2, 1)}
    assert sorted(row["position"] for row in read()) == list(range(18))


def test_of_a_piece_that_fails_half_way_nothing_is_in(make: Make, schema: pa.Schema) -> None:
    sink, read = make()
    sink.prepare(schema)

    def damaged() -> Iterator[pa.Table]:
        yield next(blocks(schema))
        raise SourceError("rows.csv: cannot be read")

    sink.write("a-0", schema, blocks(schema))
    with pytest.raises(SourceError, match=r"rows\.csv"):
        sink.write("b-0", schema, damaged())
    assert sink.found(["a-0", "b-0"]) == {"a-0": (2, 1)}
    assert len(read()) == 3


def test_positions_are_kept_for_each_version(make: Make, schema: pa.Schema) -> None:
    sink, _ = make()
    assert position_in(sink, VERSION, "key") == Position(None, None, None)
    sink.prepare(schema)
    note_begun(sink, VERSION, [(first_mark("key"), 3), (done_mark("key"), 9)])
    assert position_in(sink, VERSION, "key") == Position(3, None, 9)
    note_done(sink, VERSION, [(done_mark("key"), 9)])
    again, _ = make()
    assert position_in(again, VERSION, "key") == Position(3, 9, 9)
    assert position_in(again, "cd" * 32, "key") == Position(None, None, None)


def test_scores_of_another_kind_of_model_are_refused(
    tmp_path: Path, schema: pa.Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORES_URL", f"sqlite:///{tmp_path}/scores.sqlite")
    other = schema.set(3, pa.field("prediction", pa.float64()))
    for sink in (DeltaSink(str(tmp_path / "d")), open_sink("scores", "sql", "SCORES_URL")):
        sink.prepare(schema)
        with pytest.raises(SourceError, match="probability"):
            sink.prepare(other)


def test_a_sink_is_told_by_its_content_and_what_it_lacks_is_named(
    tmp_path: Path, schema: pa.Schema
) -> None:
    folder = str(tmp_path / "scores")
    assert isinstance(open_sink(folder), ParquetSink)
    open_sink(folder, "delta").prepare(schema)
    assert isinstance(open_sink(folder), DeltaSink)
    with pytest.raises(ValueError, match="holds a Delta table"):
        open_sink(folder, "parquet")
    with pytest.raises(ValueError, match="name the environment variable"):
        open_sink("scores", "sql")
    with pytest.raises(ValueError, match="sink csv: is none of parquet, delta, sql"):
        open_sink(folder, "csv")


def test_a_database_that_is_away_is_told_in_one_line_without_its_url(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCORES_URL", f"sqlite:///{tmp_path}/no/such.sqlite")
    sink = open_sink("scores", "sql", "SCORES_URL")
    assert isinstance(sink, SqlSink)
    with pytest.raises(SourceError, match="scores cannot be kept") as told:
        sink.found(["a-0"])
    assert "such.sqlite" not in f"{told.value}{sink!r}"

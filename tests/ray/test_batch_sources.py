"""Batch scoring of sources that grow, into every sink: each row once, also in a second run."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from deltalake import DeltaTable, write_deltalake
from sqlalchemy import create_engine, text

from app.config import Config, load_config
from app.data.ingestion import Progress
from app.data.pieces import SourceError
from app.ledger.database import open_ledger
from app.serving.scoredsource import scoring_of
from app.serving.scoresinks import open_sink
from app.serving.scoring import ScoreResult
from tests.serving_world import give_roles, make_table, put_version

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    settings = load_config("configs/flights.yaml", [f"workspace={tmp_path / 'workspace'}"])
    ledger = open_ledger(settings.ledger_url)
    give_roles(ledger, settings.name, put_version(settings, ledger, seed=1))
    ledger.close()
    return settings


def told(result: ScoreResult) -> tuple[int, int, int, int]:
    assert result.num_in == result.num_scored + result.num_rejected
    return result.num_pieces, result.num_pieces_found, result.num_scored, result.num_rejected


def test_a_database_table_that_grows_is_scored_into_a_database_as_it_grows(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.serving.batch import score

    url = f"sqlite:///{tmp_path}/shop.sqlite"
    monkeypatch.setenv("SHOP_URL", url)
    rows = make_table(config.contract, 50)
    number = pa.array(range(50), pa.int64())
    engine = create_engine(url)

    def add(part: pa.Table) -> None:
        with engine.begin() as connection:
            shown = part.to_pandas()
            for name in shown.select_dtypes("datetimetz"):
                # SQLite has no times, and pandas would leave the zone out.
                shown[name] = [time.isoformat() for time in shown[name]]
            shown.to_sql("flights", connection, if_exists="append", index=False)

    rows = rows.append_column("number", number)
    add(rows.slice(0, 30))
    named = {"url_variable": "SHOP_URL", "cursor": "number"}
    source = config.source.model_copy(update=named)
    asked = scoring_of(config.model_copy(update={"source": source}), "flights", "sql")
    sink = open_sink("scores", "sql", "SHOP_URL")

    assert told(score(asked, sink)) == (1, 0, 30, 0)
    assert told(score(asked, sink)) == (0, 0, 0, 0)
    add(rows.slice(30))
    assert told(score(asked, sink)) == (1, 0, 20, 0)

    with engine.connect() as connection:
        found = connection.execute(text("SELECT row_id, version FROM scores")).all()
    assert sorted(row.row_id for row in found) == sorted(rows["flight_id"].to_pylist())
    assert len({row.version for row in found}) == 1


def test_a_delta_table_is_scored_into_another_through_appends_and_compaction(
    config: Config, tmp_path: Path
) -> None:
    from app.serving.batch import score

    rows, table = make_table(config.contract, 60), tmp_path / "table"
    for first in (0, 20):
        write_deltalake(table, rows.slice(first, 20), mode="append")
    sink = open_sink(str(tmp_path / "scores"), "delta")
    asked = scoring_of(config, str(table))

    assert told(score(asked, sink)) == (2, 0, 40, 0)
    # Compaction moves rows into other files and brings none.
    DeltaTable(table).optimize.compact()
    assert told(score(asked, sink)) == (0, 0, 0, 0)
    write_deltalake(table, rows.slice(40), mode="append")
    seen: list[Progress] = []
    assert told(score(asked, sink, tell=seen.append)) == (1, 0, 20, 0)
    assert seen[-1] == Progress(1, 1, 20)

    scores = DeltaTable(tmp_path / "scores").to_pyarrow_table()
    assert sorted(scores["row_id"].to_pylist()) == sorted(rows["flight_id"].to_pylist())


def test_a_damaged_file_is_named_in_one_line_and_those_before_it_stay(
    config: Config, tmp_path: Path
) -> None:
    from app.serving.batch import score

    folder = tmp_path / "rows"
    folder.mkdir()
    pacsv.write_csv(make_table(config.contract, 5), folder / "a.csv")
    pacsv.write_csv(make_table(config.contract, 5, first=5), folder / "b.csv.gz")
    asked, sink = scoring_of(config, str(folder), "csv"), open_sink(str(tmp_path / "scores"))
    with pytest.raises(SourceError, match=r"b\.csv\.gz"):
        score(asked, sink)
    (folder / "b.csv.gz").unlink()
    assert told(score(asked, sink))[2] == 5

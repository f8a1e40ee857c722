"""What an ingest leaves in its report, and what stops one, on a cluster over real files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import typer

from app.config import Config
from app.contracts.rows import Contract
from app.data.halting import IngestStopped
from app.data.ingestion import IngestResult
from app.data.report import IngestReport, read_report
from app.data.tables import NAMES, open_tables
from app.sections import IntakeConfig, SourceConfig
from jobs import ingest
from jobs.outcome import user_errors

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
SECRETS = ("SECRET-PASSPORT", "Ada Lovelace")
CONTRACT = Contract.model_validate(
    {
        "id": "parcel", "event_time": "promised", "label": "lost",
        "columns": [
            {"name": "parcel", "kind": "identifier", "feature": False},
            {"name": "promised", "kind": "time", "feature": False},
            {"name": "sender", "kind": "identifier", "privacy": "personal", "nullable": True},
            {"name": "passport", "kind": "identifier", "privacy": "forbidden"},
            {"name": "depot", "kind": "category", "categories": ["north", "south"]},
            {"name": "weight", "kind": "number", "minimum": 0, "maximum": 40},
            {"name": "seal", "kind": "number", "unique": True, "nullable": True},
        ],
        "rules": [{"name": "light_in_the_north", "expect": "depot != 'north' or weight < 30"}],
    }
)  # fmt: skip


@pytest.fixture(params=["parquet", "csv"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, flights: Config) -> Config:
    """A model of parcels whose files have a column that must never come in."""
    (tmp_path / "rows").mkdir()
    source = SourceConfig(kind=request.param, events=str(tmp_path / "rows"))
    return flights.model_copy(update={"contract": CONTRACT, "source": source, "clock": "wall"})


def deliver(config: Config, name: str, *numbers: int, **changes: list[object]) -> None:
    columns: dict[str, object] = {
        "parcel": [f"P{n}" for n in numbers],
        "promised": ["2024-03-01T10:00:00Z"] * len(numbers),
        "sender": [f"Ada Lovelace {n}" for n in numbers],
        "passport": [f"SECRET-PASSPORT {n}" for n in numbers],
        "depot": ["north"] * len(numbers),
        "weight": [2.5] * len(numbers),
        "seal": [float(n) for n in numbers],
    }
    table = pa.table({**columns, **changes})
    path = Path(config.source.events or "") / f"{name}.{config.source.kind}"
    (pq.write_table if config.source.kind == "parquet" else pacsv.write_csv)(table, path)


def with_policy(config: Config, **policy: object) -> Config:
    return config.model_copy(update={"intake": IntakeConfig.model_validate(policy)})


def told(result: IngestResult) -> IngestReport:
    assert result.report is not None
    return read_report(Path(result.report))


def files_with(folder: Path, texts: tuple[str, ...]) -> list[Path]:
    """Files below a folder whose bytes hold one of the texts."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    return [file for file in files if any(t.encode() in file.read_bytes() for t in texts)]


def test_a_report_adds_up_and_no_guarded_value_is_in_any_file(shop: Config) -> None:
    deliver(shop, "a", 0, 1, 2, weight=[2.0, 31.0, 99.0])
    deliver(shop, "b", 3, 4, 5, seal=[0.0, 7.0, None])
    result = ingest.run(shop)
    report = told(result)
    assert (result.num_in, result.num_accepted, result.num_quarantined) == (6, 3, 3)
    assert sorted((d.file, d.num_in, d.num_quarantined) for d in report.deliveries) == [
        (f"a.{shop.source.kind}", 3, 2),
        (f"b.{shop.source.kind}", 3, 1),
    ]
    assert sorted((reason.of, reason.subject) for reason in report.reasons) == [
        ("column", "seal"),
        ("column", "weight"),
        ("rule", "light_in_the_north"),
    ]
    assert [(one.column, one.num_deliveries, one.num_rows) for one in report.forbidden] == [
        ("passport", 2, 6)
    ]
    assert Path(result.report or "").with_suffix(".html").is_file()
    assert files_with(shop.workspace, SECRETS) == []
    events = open_tables(shop).read("events")
    assert "passport" not in events.column_names
    deliver(shop, "c", 6, seal=[7.0])
    again = ingest.run(shop)
    assert [reason.problem for reason in told(again).reasons] == ["was ingested before"]


@pytest.mark.parametrize("shop", ["parquet"], indirect=True)
def test_a_stopped_ingest_brings_nothing_in_says_why_and_can_be_run_again(
    shop: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(shop, "a", 0, 1, 2, weight=[2.0, 31.0, 99.0])
    strict, tables = with_policy(shop, stop_above_share=0.5), open_tables(shop)
    with pytest.raises(typer.Exit) as ended, user_errors():
        ingest.run(strict)
    assert ended.value.exit_code == 2
    said = capsys.readouterr().err
    assert "2 of 3 rows (66.7 %) are quarantined, more than intake.stop_above_share 50.0 %" in said
    assert [tables.version(name) for name in NAMES] == [-1] * len(NAMES)
    suffixes = sorted(file.suffix for file in shop.ingest_reports_path.iterdir())
    assert suffixes == [".html", ".json"]
    assert files_with(shop.workspace, SECRETS) == []
    assert ingest.run(with_policy(shop, stop_above_share=0.7)).num_accepted == 1


@pytest.mark.parametrize("shop", ["parquet"], indirect=True)
def test_volume_is_held_against_earlier_ingests_and_age_against_the_clock(shop: Config) -> None:
    usual = with_policy(shop, min_median_share=0.5, min_earlier=1, volume="stop")
    deliver(usual, "a", *range(10))
    assert told(ingest.run(usual)).volume.median is None
    deliver(usual, "b", 10, 11)
    with pytest.raises(IngestStopped, match=r"2 rows came, 0\.20 of the median .* \(10\)"):
        ingest.run(usual)
    old = with_policy(shop, max_age_hours=24, stale="warn")
    report = told(ingest.run(old))
    assert (report.rows.num_accepted, report.verdict.action) == (2, "warn")
    assert datetime.now(UTC) - report.at < timedelta(hours=1)
    assert report.freshness.age_hours is not None
    assert report.freshness.age_hours > 24 * 365

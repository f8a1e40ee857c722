"""Tables as people keep them, brought in on a cluster: exactly, once, and again when they grow."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.config import Config, load_config
from app.data.preprocess import IngestResult, ingest
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.tables import Tables

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

AT = datetime(2026, 3, 1, tzinfo=UTC)
CONFIG = """
name: loans
workspace: {workspace}
source: {{kind: {kind}, events: "{events}", delimiter: ";", inline: {{label_column: outcome,
  positive: [bad], negative: [good], nulls: [NA], numbers: {{amount: "1.234,5"}}}}}}
contract:
  id: row_id
  event_time: arrived_at
  label: outcome
  columns:
    - {{name: row_id, kind: identifier, feature: false, generated: true}}
    - {{name: arrived_at, kind: time, feature: false, generated: true}}
    - {{name: amount, kind: number, nullable: true, minimum: 0}}
    - {{name: kind, kind: category}}
"""
LINES = ["1.000,5;a;good", "NA;b;bad", "2;a;", "-3;a;bad", "4;b;perhaps", "5;c;bad;too much"]


def config(folder: Path, events: str, kind: str = "csv") -> Config:
    file = folder / "loans.yaml"
    file.write_text(
        CONFIG.format(workspace=folder / "workspace", events=folder / events, kind=kind)
    )
    return load_config(file)


def bring(settings: Config, at: datetime = AT) -> tuple[IngestResult, Tables]:
    tables = Tables(settings.tables_path, settings.contract)
    result = ingest(settings, tables, at=at)
    assert result.num_in == result.num_accepted + result.num_quarantined
    assert result.num_labels_in == result.num_labels + result.num_labels_quarantined
    return result, tables


def test_a_csv_with_outcomes_in_its_rows_is_brought_in_once_and_its_growth_after(
    tmp_path: Path,
) -> None:
    file = tmp_path / "loans.csv"
    file.write_text("Amount;Kind;Outcome\n" + "\n".join(LINES) + "\n")
    settings = config(tmp_path, "loans.csv")

    first, tables = bring(settings)
    again, _ = bring(settings, AT + timedelta(hours=1))

    assert (first.num_in, first.num_accepted, first.num_quarantined) == (6, 4, 2)
    # Of four outcomes one belongs to a refused row, and one is neither.
    assert (first.num_labels_in, first.num_labels, first.num_labels_quarantined) == (4, 2, 2)
    assert (again.num_in, again.num_labels_in) == (0, 0)
    pinned = take_snapshot(tables, settings.contract, None, AT + timedelta(seconds=1), AT)
    rows = load_snapshot(tables, settings.contract, pinned).sort_by("amount")
    assert rows["amount"].to_pylist() == [2.0, 4.0, 1000.5, None]
    assert rows["state"].to_pylist() == ["pending", "pending", "known", "known"]
    assert rows["label"].to_pylist() == [None, None, 0, 1]

    file.write_text(file.read_text().replace("2;a;\n", "2;a;bad\n") + "7;c;good\n")
    grown, tables = bring(settings, AT + timedelta(days=1))
    # The old rows are known by their ids; the outcome that came late is a new fact about one.
    assert (grown.num_accepted, grown.num_quarantined) == (1, 6)
    later = AT + timedelta(days=1, seconds=1)
    pinned = take_snapshot(tables, settings.contract, None, later, later)
    rows = load_snapshot(tables, settings.contract, pinned).sort_by("amount")
    assert dict(zip(rows["amount"].to_pylist(), rows["label"].to_pylist(), strict=True)) == {
        2.0: 1, 4.0: None, 7.0: 0, 1000.5: 0, None: 1,
    }  # fmt: skip


def test_parquet_keeps_its_types_and_every_row_group_its_rows(tmp_path: Path) -> None:
    table = pa.table(
        {
            "Amount": pa.array([1.5, None, 1.5, 1.5], pa.float32()),
            "Kind": pa.array([True, False, True, True]),
            "Outcome": pa.array(["good", "bad", "bad", None]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "loans.parquet", row_group_size=2)
    result, tables = bring(config(tmp_path, "loans.parquet", "parquet"))
    assert (result.num_accepted, result.num_labels) == (4, 3)
    assert len(set(tables.read("events")["row_id"].to_pylist())) == 4
    assert set(tables.read("events")["kind"].to_pylist()) == {"true", "false"}

"""Tables with outcomes that are no yes or no, brought in on a cluster and pinned."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.config import Config, load_config
from app.data.preprocess import ingest
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.tables import Tables

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

AT = datetime(2026, 3, 1, tzinfo=UTC)
CONFIG = """
name: orders
workspace: {workspace}
source: {{kind: parquet, events: "{events}", inline: {{label_column: outcome{more}}}}}
contract:
  id: order
  event_time: arrived_at
  label: outcome
  {target}
  columns:
    - {{name: order, kind: identifier, feature: false}}
    - {{name: arrived_at, kind: time, feature: false, generated: true}}
    - {{name: amount, kind: number}}
"""


def bring(folder: Path, outcome: pa.Array, target: str, more: str = "") -> tuple[Config, pa.Table]:
    """Bring in a table of these outcomes, in two row groups; returns what a snapshot gives."""
    size = len(outcome)
    table = pa.table(
        {
            "Order": [f"O{i}" for i in range(size)],
            "Amount": [float(i) for i in range(size)],
            "Outcome": outcome,
        }
    )
    pq.write_table(table, folder / "orders.parquet", row_group_size=3)
    file = folder / "orders.yaml"
    place, events = folder / "workspace", folder / "orders.parquet"
    file.write_text(CONFIG.format(workspace=place, events=events, target=target, more=more))
    config = load_config(file)
    tables = Tables(config.tables_path, config.contract)
    result = ingest(config, tables, at=AT)
    assert result.num_in == result.num_accepted == size
    assert result.num_labels_in == result.num_labels + result.num_labels_quarantined
    assert ingest(config, tables, at=AT + timedelta(hours=1)).num_labels_in == 0
    pinned = take_snapshot(tables, config.contract, None, AT + timedelta(seconds=1), AT)
    assert pinned.num_known == result.num_labels
    return config, load_snapshot(tables, config.contract, pinned).sort_by("amount")


def test_numbers_are_brought_in_bit_by_bit_and_what_is_none_is_quarantined(tmp_path: Path) -> None:
    outcome = pa.array([0.1, None, -3.5, float("nan"), float("inf"), 9e9])
    config, rows = bring(tmp_path, outcome, "task: regression")
    assert rows["label"].type == pa.float64()
    assert rows["label"].to_pylist() == [0.1, None, -3.5, None, None, 9e9]
    refused = Tables(config.tables_path, config.contract).read("quarantine")["reasons"].to_pylist()
    assert sorted(reason for (reason,) in refused) == [
        "label is NaN; send null for an unknown value, got nan",
        "label must be finite, got inf",
    ]


def test_classes_are_brought_in_by_their_names_and_an_unknown_one_is_quarantined(
    tmp_path: Path,
) -> None:
    outcome = pa.array(["late", "early", None, "never", "L", "on time"]).dictionary_encode()
    target = "task: multiclass\n  classes: [early, on time, late]"
    config, rows = bring(tmp_path, outcome, target, ", classes: {late: [L]}")
    assert rows["label"].type == pa.int16()
    assert rows["label"].to_pylist() == [2, 0, None, None, 2, 1]
    refused = Tables(config.tables_path, config.contract).read("quarantine")
    assert refused["reasons"].to_pylist() == [
        ["label must be one of early, on time, late, got 'never'"]
    ]

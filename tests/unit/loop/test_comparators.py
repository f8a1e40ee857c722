"""Comparators are fitted once, on what was known at each month's start."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from app.config import Config
from app.contracts.rows import TIMESTAMP
from app.data.snapshots import take_snapshot
from app.data.tables import Tables, open_tables
from app.loop.comparators import Comparators, FitIndex, production_rows, window_start
from app.loop.rehearsal import split_months
from app.model.manifest import ArtifactAltered

START = datetime(2013, 2, 1, tzinfo=UTC)
UNTIL = datetime(2013, 4, 1, tzinfo=UTC)
PERIODS = split_months(START, UNTIL)
NUM_ROWS = 900


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Tables]:
    """Ninety days of ten rows; outcomes follow x, and the meaning of x turns on 1 March."""
    config = small_config(tmp_path_factory.mktemp("comparators"))
    tables = open_tables(config)
    generator = np.random.default_rng(3)
    asked = [datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=i / 10) for i in range(NUM_ROWS)]
    x = generator.normal(size=NUM_ROWS)
    turned = np.array([at >= PERIODS[1].start for at in asked])
    label = (np.where(turned, -x, x) + generator.normal(size=NUM_ROWS) > 0).astype(np.int8)
    times = pa.array(asked, TIMESTAMP)
    ids = [f"r{index:04d}" for index in range(NUM_ROWS)]
    rows = pa.table({"id": ids, "at": times, "x": x})
    tables.append("events", tables.complete("events", rows, START, "ingest:test"))
    known = pa.array([at + timedelta(days=1) for at in asked], TIMESTAMP)
    labels = {
        "row_id": ids,
        "label": pa.array(label),
        "void": [False] * NUM_ROWS,
        "known_at": known,
        "received_at": known,
        "source": ["test"] * NUM_ROWS,
    }
    tables.append("labels", pa.table(labels).cast(tables.schema("labels")))
    return config, tables


def small_config(workspace: Path) -> Config:
    return Config.model_validate(
        {
            "name": "tiny",
            "workspace": workspace,
            "source": {"kind": "parquet", "events": "rows.parquet"},
            "contract": {
                "id": "id",
                "event_time": "at",
                "label": "label",
                "columns": [
                    {"name": "id", "kind": "identifier", "feature": False},
                    {"name": "at", "kind": "time", "feature": False},
                    {"name": "x", "kind": "number"},
                ],
            },
            "features": {"num_bins": 8},
            "training": {
                "epochs": 2,
                "batch_rows": 64,
                "learning_rate": 0.01,
                "network": {"hidden": 16, "num_layers": 1, "embedding": 2, "dropout": 0.0},
                "split": {"gate_window_days": 8, "gate_every_days": 4, "stop_days": 5},
            },
        }
    )


def comparators(world: tuple[Config, Tables], told: list[str]) -> Comparators:
    config, tables = world
    return Comparators(config, tables, None, PERIODS[0], told.append)


def test_in_the_first_month_every_policy_is_the_first_champion(world):
    made = comparators(world, [])

    first = made.model("static", PERIODS[1])

    assert made.model("last3", PERIODS[0]) is first
    assert made.model("all", PERIODS[0]) is first
    assert made.model("all", PERIODS[1]).digest != first.digest


def test_a_fit_is_remembered_across_processes(world):
    told: list[str] = []
    before = comparators(world, told).model("all", PERIODS[1])
    told.clear()

    again = comparators(world, told).model("all", PERIODS[1])

    assert again.digest == before.digest
    assert told == [f"all, 2013-03, {learned_rows(before)} outcomes: fitted before"]


def test_a_comparator_learns_nothing_from_its_own_month(world):
    bundle = comparators(world, []).model("all", PERIODS[1])

    # The last row before March became known on 1 March at 21:36; ten rows a day, one day's delay.
    assert learned_rows(bundle) == 31 * 10 + 27 * 10 + 1
    probe = pa.table({"x": [-2.0, 2.0]})
    low, high = bundle.predict(probe)
    assert low < high


def test_other_settings_are_another_fit(world):
    config, tables = world
    told: list[str] = []
    comparators(world, []).model("all", PERIODS[1])
    training = config.training.model_copy(update={"seed": 8})
    other = config.model_copy(update={"training": training})

    Comparators(other, tables, None, PERIODS[0], told.append).model("all", PERIODS[1])

    assert told[0].endswith("fitting")


def test_an_altered_fit_is_refused_and_not_fitted_anew(world):
    config, _ = world
    bundle = comparators(world, []).model("last3", PERIODS[1])
    weights = config.artifacts_path / bundle.digest / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    with pytest.raises(ArtifactAltered):
        comparators(world, []).model("last3", PERIODS[1])
    weights.write_bytes(content)


def test_production_rows_are_those_of_the_replay_with_all_outcomes(world):
    config, tables = world

    rows = production_rows(config, tables, START, UNTIL)

    assert rows.num_rows == NUM_ROWS - 310
    assert set(rows["state"].to_pylist()) == {"known"}


def test_a_replay_without_rows_says_what_to_do(world):
    config, tables = world

    with pytest.raises(ValueError, match=r"replay them with jobs\.loop"):
        production_rows(config, tables, UNTIL, UNTIL + timedelta(days=9))


def test_the_last_three_months_end_where_the_month_begins():
    assert window_start("last3", PERIODS[1]) == datetime(2012, 12, 1, tzinfo=UTC)
    assert window_start("all", PERIODS[1]) is None


def test_the_index_keeps_no_half_written_entry(world, tmp_path: Path):
    config, tables = world
    index, end = FitIndex(tmp_path / "index"), PERIODS[1].start
    dataset = take_snapshot(tables, config.contract, None, end, end)

    assert index.find(dataset, "c" * 16) is None
    index.record(dataset, "c" * 16, "a" * 64)

    assert index.find(dataset, "c" * 16) == "a" * 64
    assert [file.suffix for file in (tmp_path / "index").iterdir()] == [".json"]


def learned_rows(bundle) -> int:
    return bundle.card["dataset"]["num_known"]

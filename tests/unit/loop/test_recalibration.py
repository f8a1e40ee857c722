"""Real rows, real bundles: what the gate and the watch compare, and what a recalibration makes."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from app.loop.gate import gate_days, judge
from app.loop.recalibration import RecalibrationError, recalibrate
from app.loop.scoring import Store
from app.model.calibration import Calibrator
from app.registry.artifacts import Artifacts
from app.sections import GateConfig
from tests.learning_world import (
    CONTRACT,
    END,
    START,
    fill_tables,
    make_bundle,
    make_config,
    make_rows,
)
from tests.unit.loop.world import version

ROWS = make_rows(3000)
MIDDLE = START + timedelta(days=12)
GATE = {"min_rows": 200, "min_days": 2, "num_bootstraps": 100}


@pytest.fixture
def world(tmp_path):
    """A champion of the first twelve days whose calibrator says far too much."""
    config = make_config(tmp_path)
    loop = config.loop.model_copy(update={"gate": GateConfig.model_validate(GATE)})
    config = config.model_copy(update={"loop": loop})
    store = Store(fill_tables(config, ROWS), CONTRACT, Artifacts(config.artifacts_path))
    bundle = make_bundle(ROWS).with_calibrator(Calibrator(intercept=2.0), {"seed": 0})
    bundle.save(tmp_path / "bundle")
    digest = store.artifacts.put(tmp_path / "bundle")
    champion = version("first", MIDDLE, model="orders", digest=digest)
    return config, store, champion


def test_only_rows_whose_outcome_was_known_are_compared(world):
    _, store, _ = world
    rows = store.outcomes(START, END, MIDDLE)
    assert rows.num_rows > 500
    assert max(rows["prediction_time"].to_pylist()) <= MIDDLE - timedelta(hours=1)
    assert set(rows["state"].to_pylist()) == {"known"}


def test_only_the_days_asked_for_are_compared(world):
    _, store, champion = world
    rows = store.outcomes_of_days(("2020-01-20", "2020-01-14"), END)
    days = {moment.date().isoformat() for moment in rows["prediction_time"].to_pylist()}
    assert days == {"2020-01-14", "2020-01-20"}
    paired = store.paired(rows, None, champion.digest)
    assert len(paired) == rows.num_rows
    assert np.allclose(paired.new, store.bundle(champion.digest).predict(rows))
    assert len(store.paired(store.outcomes_of_days((), END), None, champion.digest)) == 0


def test_a_recalibrated_champion_keeps_its_order_and_passes_the_gate_on_brier(world):
    config, store, champion = world
    made = recalibrate(config, store, champion, "orders-0007-recalibrate", END)
    days = gate_days(made, champion)
    assert len(days) >= 3
    rows = store.outcomes_of_days(days, END)
    paired = store.paired(rows, champion.digest, made.digest)
    assert (np.argsort(paired.new) == np.argsort(paired.old)).mean() > 0.99
    report = judge(paired, config.loop.gate, 7, aim="calibration")
    assert report.passed
    assert report.candidate.calibration_error < report.champion.calibration_error


def test_a_recalibration_says_what_it_was_made_from(world):
    config, store, champion = world
    made = recalibrate(config, store, champion, "orders-0007-recalibrate", END)
    assert (made.kind, made.parent, made.trained_until) == ("recalibrated", champion.digest, END)
    assert made.dataset.start == MIDDLE
    card = store.bundle(made.digest).card
    assert (card["run"], card["parent"]) == ("orders-0007-recalibrate", champion.digest)
    assert recalibrate(config, store, champion, "orders-0007-recalibrate", END) == made


def test_gate_rows_do_not_shape_a_recalibration(world, tmp_path):
    config, store, champion = world
    made = recalibrate(config, store, champion, "r", END)
    day = np.array([moment.date().isoformat() for moment in ROWS["prediction_time"].to_pylist()])
    held_out = np.isin(day, made.held_out_days)
    label = ROWS["label"]
    flipped = pc.if_else(pa.array(held_out), pc.subtract(pa.scalar(1, pa.int8()), label), label)
    turned = ROWS.set_column(ROWS.schema.get_field_index("label"), "label", flipped)
    elsewhere = config.model_copy(update={"workspace": tmp_path / "other"})
    other = Store(fill_tables(elsewhere, turned), CONTRACT, store.artifacts)
    again = recalibrate(config, other, champion, "r", END)
    assert other.bundle(again.digest).calibrator == store.bundle(made.digest).calibrator
    assert again.dataset.digest != made.dataset.digest


def test_too_few_recent_outcomes_are_refused(world):
    config, store, champion = world
    with pytest.raises(RecalibrationError, match="200 with both outcomes are needed"):
        recalibrate(config, store, champion, "r", MIDDLE + timedelta(days=2))

"""Versions divided by share: what the gate compares is what neither learned from."""

from datetime import timedelta

import numpy as np
import pytest

from app.contracts.records import HeldOutShare
from app.loop.gate import judge
from app.loop.held_out import held_out, outside, parts
from app.loop.recalibration import recalibrate
from app.loop.scoring import Store
from app.model.calibration import Calibrator
from app.registry.artifacts import Artifacts
from app.sections import GateConfig, SplitConfig
from app.training.assembly import fit_in_process
from app.training.window import held_out_share
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
SHARE = HeldOutShare(by="id", seed=7, share=0.2)
GATE = GateConfig(
    min_rows=100, min_days=5, num_bootstraps=100, max_calibration_error=1.0, min_bootstrap_auc=0.5
)


@pytest.fixture
def store(tmp_path):
    config = make_config(tmp_path)
    return Store(fill_tables(config, ROWS), CONTRACT, Artifacts(config.artifacts_path))


def made(store, tmp_path, name, **changes):
    """A stored version; its bundle says far too much."""
    bundle = make_bundle(ROWS).with_calibrator(Calibrator(intercept=2.0), {"seed": name})
    bundle.save(tmp_path / name)
    digest = store.artifacts.put(tmp_path / name)
    return version(name, changes.pop("until", END), model="orders", digest=digest, **changes)


def test_a_training_by_share_keeps_the_share_it_names(tmp_path):
    config = make_config(tmp_path, split=SplitConfig(by="id"), seed=7)
    table = ROWS
    fitted = fit_in_process(config, table, END)
    kept = held_out(table, version("a", END, held_out_share=held_out_share(config)), CONTRACT)
    assert 0.17 < kept.mean() < 0.23
    shaping = set(fitted.window.shaping["order"].to_pylist())
    assert shaping.isdisjoint(np.array(table["order"].to_pylist())[kept])
    assert fitted.window.held_out_days == ()
    assert fitted.bundle.card["held_out_share"] == {"by": "id", "seed": 7, "share": 0.2}


def test_the_gate_s_rows_are_held_out_by_both(store, tmp_path):
    old = made(store, tmp_path, "old", held_out_share=SHARE, until=MIDDLE)
    new = made(store, tmp_path, "new", held_out_share=SHARE)
    rows = store.gate_rows(new, old)
    assert held_out(rows, new, CONTRACT).all()
    assert rows.num_rows > 400
    other = made(store, tmp_path, "other", held_out_share=SHARE.model_copy(update={"seed": 8}))
    fewer = store.gate_rows(new, other)
    assert held_out(fewer, new, CONTRACT).all()
    assert held_out(fewer, other, CONTRACT).all()
    assert 0.1 < fewer.num_rows / rows.num_rows < 0.3


def test_what_is_younger_than_the_champion_counts_too(store, tmp_path):
    old = made(store, tmp_path, "old", held_out_days=("2020-01-05",), until=MIDDLE)
    new = made(store, tmp_path, "new", held_out_share=SHARE)
    rows = store.gate_rows(new, old)
    assert held_out(rows, new, CONTRACT).all()
    assert outside(rows, old, CONTRACT).all()
    dates = {moment.date().isoformat() for moment in rows["prediction_time"].to_pylist()}
    assert min(dates) == "2020-01-05"
    assert min(dates - {"2020-01-05"}) >= "2020-01-13"


def test_a_first_model_is_judged_in_parts_and_the_report_says_so(store, tmp_path):
    new = made(store, tmp_path, "new", held_out_share=SHARE)
    rows = store.gate_rows(new, None)
    paired = store.paired(rows, None, new.digest, parts(rows, new, CONTRACT))
    assert paired.unit == "part"
    assert paired.num_days == 20
    report = judge(paired, GATE, 7, has_champion=False)
    assert "of 20 parts outside both trainings" in str(report.reasons)
    few = judge(paired.only(paired.day < 3), GATE, 7, has_champion=False)
    assert not few.passed
    assert any("fewer than 5 parts" in reason for reason in few.reasons)


def test_a_recalibration_keeps_out_what_its_parent_keeps_out(store, tmp_path):
    config = make_config(tmp_path)
    loop = config.loop.model_copy(update={"gate": GATE})
    config = config.model_copy(update={"loop": loop})
    champion = made(store, tmp_path, "first", held_out_share=SHARE, until=MIDDLE)
    again = recalibrate(config, store, champion, "orders-0007-recalibrate", END)
    assert (again.held_out_share, again.held_out_days) == (SHARE, ())
    rows = store.gate_rows(again, champion)
    assert rows.num_rows > 200
    assert held_out(rows, champion, CONTRACT).all()
    paired = store.paired(rows, champion.digest, again.digest, parts(rows, again, CONTRACT))
    assert judge(paired, GATE, 7, aim="calibration").passed

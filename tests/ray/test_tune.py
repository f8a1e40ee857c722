"""Searches on Ray Tune: trials within the budget, laggards stopped, the best found and kept."""

from pathlib import Path

import pytest

from app.config import Config
from app.data.snapshots import take_snapshot
from app.sections.tuning import TuningConfig
from app.training.space import trial_config
from app.training.tune import begin_search, find_search, run_search
from app.training.tuning import Standing
from tests.learning_world import CONTRACT, END, START, fill_tables, make_config, make_rows

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
SPACE = {
    "training.learning_rate": {"log_uniform": [1e-5, 1e-1]},
    "training.network.hidden": {"choice": [8, 16]},
    "features.num_bins": {"integer": [4, 8]},
}


def searched(workspace: Path, tuning: dict[str, object], **training: object) -> Config:
    config = make_config(workspace, **training)
    chosen = TuningConfig.model_validate({"space": SPACE, **tuning})
    return config.model_copy(update={"tuning": chosen})


def test_a_search_tries_stops_laggards_and_goes_on_with_more_trials(tmp_path: Path) -> None:
    asha = {"grace_epochs": 1, "reduction_factor": 3}
    config = searched(tmp_path, {"num_trials": 6, "asha": asha}, epochs=6, patience=6)
    dataset = take_snapshot(fill_tables(config, make_rows()), CONTRACT, START, END, END)
    plan = begin_search(config, dataset, "search", END)
    told: list[Standing] = []
    report = run_search(config, plan, "search", on_ended=told.append)

    assert [trial.number for trial in report.trials] == list(range(6))
    assert sorted(standing.latest.number for standing in told) == list(range(6))
    assert report.num_of("complete") + report.num_of("stopped") == 6
    assert report.num_of("stopped") >= 1
    assert all(len(t.epochs) == 6 for t in report.trials if t.state == "complete")
    # With a grace of 1 and a factor of 3, trials are compared after one epoch and after three.
    assert {len(t.epochs) for t in report.trials if t.state == "stopped"} <= {1, 3}
    assert report.trials[0].values["training.learning_rate"] == config.training.learning_rate
    assert report.best is not None
    assert report.best.loss <= report.trials[0].loss
    assert not list((tmp_path / "runs" / "search").glob("trials/*"))

    # The same name with more trials is the same search: what was tried is not tried again.
    more = config.model_copy(update={"tuning": config.tuning.model_copy(update={"num_trials": 7})})
    assert find_search(more, "search") == plan
    longer = run_search(more, plan, "search")
    assert longer.trials[:6] == report.trials
    assert len(longer.trials) == 7
    with pytest.raises(ValueError, match="another space"):
        find_search(trial_config(config, {"training.batch_rows": 32}), "search")


def test_a_trial_of_two_workers_runs_ray_train_within(tmp_path: Path) -> None:
    config = searched(
        tmp_path, {"num_trials": 2, "asha": None}, num_workers=2, cpus_per_worker=0.5, epochs=2
    )
    dataset = take_snapshot(fill_tables(config, make_rows()), CONTRACT, START, END, END)
    report = run_search(config, begin_search(config, dataset, "pair", END), "pair")
    assert [trial.state for trial in report.trials] == ["complete", "complete"]
    assert all(len(trial.epochs) == 2 and trial.loss for trial in report.trials)

"""Searches and their trials as MLflow shows them."""

from pathlib import Path

import pytest

from app.training.state import Epoch
from app.training.study import TrialRecord
from app.training.tracking_trials import TrackedSearch
from app.training.tuning import SearchReport
from tests.learning_world import DATASET, END, make_config


@pytest.mark.slow
def test_a_search_and_its_trials_are_shown_once_also_after_a_resume(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    config = make_config(tmp_path)
    epochs = tuple(
        Epoch(number=number, num_rows=9, train_loss=0.6, stop_loss=loss)
        for number, loss in ((1, 0.5), (2, 0.4))
    )
    values = {"training.learning_rate": 0.01}
    first = TrialRecord(
        number=0, values=values, state="complete", loss=0.4, epochs=epochs, seconds=2
    )
    second = TrialRecord(number=1, values=values, state="stopped", loss=0.5, epochs=epochs[:1])
    at_ms = int(END.timestamp() * 1000)
    TrackedSearch(config, DATASET, "search", at_ms).show(first, at_ms)
    resumed = TrackedSearch(config, DATASET, "search", at_ms)
    resumed.show(first, at_ms)
    resumed.show(second, at_ms)
    report = SearchReport(
        run="search", model="orders", created_at=END, dataset=DATASET, space={}, num_wanted=2,
        seconds=3, trials=(first, second),
    )  # fmt: skip
    resumed.close(report, at_ms)

    client = MlflowClient(tracking_uri=config.experiments_url)
    experiment = client.get_experiment_by_name(config.training.experiment).experiment_id
    (parent,) = client.search_runs([experiment], "tags.kind = 'search'")
    trials = client.search_runs([experiment], "tags.kind = 'trial'", order_by=["tags.trial"])
    assert [run.info.status for run in trials] == ["FINISHED", "KILLED"]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert trials[0].data.params == {"training.learning_rate": "0.01"}
    losses = client.get_metric_history(trials[0].info.run_id, "stop_loss")
    assert [(each.step, each.value) for each in losses] == [(1, 0.5), (2, 0.4)]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_loss"] == 0.4
    assert parent.data.tags["best.training.learning_rate"] == "0.01"

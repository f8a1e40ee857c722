"""Runs as MLflow shows them: while they run, when they end, when they are taken up again."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from app.config import Config
from app.contracts.records import TrainingResult
from app.training.assembly import Fitted, fit_in_process
from app.training.live import LiveRun, shown_live
from app.training.progress import ProgressWriter, RunProgress, read_progress
from app.training.state import FitState
from app.training.tracking import TrackedRun
from tests.learning_world import DATASET, END, make_config, make_rows

pytestmark = pytest.mark.slow

RUN = "orders-0001-retrain"


def clock() -> datetime:
    return END


def shown(config: Config) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=config.experiments_url)
    found = client.get_experiment_by_name(config.training.experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def history(config: Config, run_id: str, key: str) -> list[int]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=config.experiments_url)
    return [metric.step for metric in client.get_metric_history(run_id, key)]


def fitted(config: Config, folder: Path) -> tuple[Fitted, TrainingResult, list[RunProgress]]:
    """Fit for real; give the records of each epoch too."""
    folder.mkdir()
    writer = ProgressWriter(folder, config.training, FitState(), lambda: 0.0, "one")
    records = []

    def after(state: FitState) -> None:
        writer.after_epoch(state)
        records.append(read_progress(folder))

    made = fit_in_process(config, make_rows(), END, on_epoch=after)
    made.bundle.save(folder / "bundle")
    version = made.version(config, DATASET, RUN, END)
    result = TrainingResult(version=version, seconds=1.0, num_epochs=2, rows_per_second=1e4)
    return made, result, [record for record in records if record]


def test_a_run_is_shown_while_it_runs_and_whole_when_it_ends(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    config = make_config(tmp_path / "w", epochs=2)
    (tmp_path / "w").mkdir()
    made, result, records = fitted(config, tmp_path / "run")
    live = LiveRun(config, RUN, DATASET, clock)
    live.progress(records[0])
    live.close()
    (run,) = shown(config)
    assert (run.info.run_name, run.info.status) == (RUN, "RUNNING")
    assert run.data.params["training.network.hidden"] == "16"
    assert run.data.params["features.num_bins"] == "8"
    assert run.data.tags["data_digest"] == "0" * 32
    assert run.data.metrics["train_loss"] == made.state.epochs[0].train_loss
    assert "roc_auc" not in run.data.metrics

    # The process died; another one goes on in the same run.
    live = LiveRun(config, RUN, DATASET, clock)
    live.progress(records[-1])
    live.finish(result, tmp_path / "run" / "bundle")
    live.close()
    (run,) = shown(config)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["roc_auc"] == pytest.approx(made.evaluation.roc_auc.value)
    assert run.data.tags["digest"] == made.bundle.digest
    run_id = run.info.run_id
    assert history(config, run_id, "stop_loss") == [1, 2]
    num_refitted = len(made.state.refit_epochs)
    assert history(config, run_id, "refit_train_loss") == list(range(1, num_refitted + 1))
    client = MlflowClient(tracking_uri=config.experiments_url)
    names = {Path(file.path).name for file in client.list_artifacts(run_id, "bundle")}
    assert {"weights.safetensors", "manifest.json"} <= names

    # Finished is finished.
    live = LiveRun(config, RUN, DATASET, clock)
    live.finish(result, tmp_path / "run" / "bundle")
    live.close()
    (again,) = shown(config)
    assert (again.info.run_id, again.info.status) == (run_id, "FINISHED")
    assert history(config, run_id, "roc_auc") == [0]


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("too hot"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_run_that_fails_says_so_and_is_taken_up_again(
    tmp_path: Path, error: BaseException, status: str
) -> None:
    config = make_config(tmp_path)
    with (
        pytest.raises(type(error)),
        shown_live(LiveRun(config, RUN, DATASET, clock)),
    ):
        raise error
    (run,) = shown(config)
    assert run.info.status == status
    if status == "FAILED":
        assert run.data.tags["failure"] == "too hot"
    assert TrackedRun.open(config, RUN, DATASET, clock) is not None
    (again,) = shown(config)
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "RUNNING")


def test_an_mlflow_that_is_away_costs_a_warning_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "experiments.sqlite").write_bytes(b"this is no database" * 100)
    with shown_live(LiveRun(make_config(tmp_path), RUN, DATASET, clock)) as live:
        live.fail("FAILED", "for a reason")
    assert "the run is not shown in MLflow" in caplog.text

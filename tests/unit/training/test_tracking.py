"""Runs as MLflow shows them."""

from pathlib import Path

import pytest

from app.contracts.records import DatasetVersion, TrainingResult
from app.training.assembly import fit_in_process
from app.training.tracking import track
from tests.learning_world import END, START, make_config, make_rows


@pytest.mark.slow
def test_a_run_is_shown_once_with_figures_versions_and_bundle(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    config = make_config(tmp_path, epochs=2)
    fitted = fit_in_process(config, make_rows(), END)
    folder = tmp_path / "bundle"
    digest = fitted.bundle.save(folder)
    dataset = DatasetVersion(
        start=START,
        end=END,
        known_at=END,
        events_version=0,
        labels_version=0,
        digest="0" * 32,
        num_rows=1500,
        num_known=1400,
        num_void=60,
    )
    version = fitted.version(config, dataset, "orders-0001-retrain", END)
    result = TrainingResult(version=version, seconds=1.0, num_epochs=2, rows_per_second=1e4)

    run_id = track(config, result, folder)
    assert track(config, result, folder) == run_id

    client = MlflowClient(tracking_uri=config.experiments_url)
    run = client.get_run(run_id)
    assert run.info.run_name == "orders-0001-retrain"
    assert run.info.status == "FINISHED"
    assert run.data.metrics["roc_auc"] == pytest.approx(fitted.evaluation.roc_auc.value)
    assert run.data.params["training.network.hidden"] == "16"
    assert run.data.params["features.num_bins"] == "8"
    assert run.data.tags["digest"] == digest
    assert run.data.tags["data_digest"] == "0" * 32
    assert len(client.get_metric_history(run_id, "stop_loss")) == 2
    names = {Path(file.path).name for file in client.list_artifacts(run_id, "bundle")}
    assert {"weights.safetensors", "manifest.json"} <= names

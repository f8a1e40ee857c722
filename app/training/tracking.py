"""Show a finished run in MLflow: parameters, figures, files.

Knows records and MLflow; knows nothing of how a model is trained. Everything is sent at the end, in
a few calls: importing MLflow takes seconds, so it happens inside.
"""

import json
import os
from pathlib import Path

from app.config import Config
from app.contracts.records import TrainingResult

MAX_VALUE_LENGTH = 500


def track(config: Config, result: TrainingResult, folder: Path) -> str:
    """Record a training run, its versions and its bundle folder; returns MLflow's run id.

    A run that is there already is left as it is.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=config.experiments_url)
    name = config.training.experiment
    found = client.get_experiment_by_name(name)
    location = (config.workspace / "experiments").as_uri()
    experiment = (
        found.experiment_id if found else client.create_experiment(name, artifact_location=location)
    )
    version = result.version
    same = client.search_runs([experiment], f"tags.digest = '{version.digest}'", max_results=1)
    if same:
        return str(same[0].info.run_id)
    run = client.create_run(experiment, run_name=version.run)
    at = int(version.created_at.timestamp() * 1000)
    figures = [Metric(key, value, at, 0) for key, value in _figures(result).items()]
    for epoch in json.loads((folder / "card.json").read_bytes())["epochs"]:
        figures += [
            Metric(key, epoch[key], at, epoch["number"]) for key in ("train_loss", "stop_loss")
        ]
    params = [Param(key, value[:MAX_VALUE_LENGTH]) for key, value in _parameters(config).items()]
    tags = [RunTag(key, value) for key, value in _tags(result).items()]
    client.log_batch(run.info.run_id, metrics=figures, params=params, tags=tags)
    client.log_artifacts(run.info.run_id, str(folder), artifact_path="bundle")
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _figures(result: TrainingResult) -> dict[str, float]:
    evaluation = result.version.evaluation
    return {
        **evaluation.figures,
        "num_stop_rows": evaluation.num_rows,
        "seconds": result.seconds,
        "rows_per_second": result.rows_per_second,
        "num_epochs": result.num_epochs,
    }


def _parameters(config: Config) -> dict[str, str]:
    """Flatten the sections that decide what a model is made of."""
    flat: dict[str, str] = {}
    sections = {"training": config.training.model_dump(), "features": config.features.model_dump()}
    for section, values in sections.items():
        for key, value in values.items():
            inner = value.items() if isinstance(value, dict) else [("", value)]
            flat |= {
                ".".join(filter(None, (section, key, name))): str(each) for name, each in inner
            }
    return flat


def _tags(result: TrainingResult) -> dict[str, str]:
    version = result.version
    return {
        "digest": version.digest,
        "model": version.model,
        "data_digest": version.dataset.digest,
        "data_until": version.dataset.end.isoformat(),
        "code_version": version.code_version,
        "config_digest": version.config_digest,
    }

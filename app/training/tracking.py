"""A training run in MLflow: parameters, losses as epochs end, figures and files at the end.

Knows records and MLflow; knows nothing of how a model is trained, of threads or of the clock. The
run is found again by its name, so that one that was interrupted goes on and a finished one is left
as it is. Importing MLflow takes seconds, so it happens inside.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from app.config import Config
from app.contracts.records import DatasetVersion, TrainingResult
from app.training.assembly import SECTIONS, code_version
from app.training.state import Epoch, StageName

MAX_VALUE_LENGTH = 500
End = Literal["FAILED", "KILLED"]
Ended = tuple[StageName, Epoch]


class TrackedRun:
    """One run as MLflow shows it, not finished yet."""

    def __init__(self, client: Any, run_id: str, clock: Callable[[], datetime]) -> None:
        """Hold an open run; `open_run` finds or makes it."""
        self._client, self.run_id, self._clock = client, run_id, clock
        self._sent = {
            key: {metric.step for metric in client.get_metric_history(run_id, key)}
            for key in ("train_loss", "refit_train_loss")
        }

    @classmethod
    def open(
        cls, config: Config, run: str, dataset: DatasetVersion, clock: Callable[[], datetime]
    ) -> Self | None:
        """Begin a run, or go on in the one of this name; None when that one is finished."""
        client, experiment = open_experiment(config)
        known = f"tags.mlflow.runName = '{run}' and tags.model = '{config.name}'"
        for found in client.search_runs([experiment], known, max_results=1):
            if found.info.status == "FINISHED":
                return None
            client.update_run(found.info.run_id, status="RUNNING")
            return cls(client, found.info.run_id, clock)
        from mlflow.entities import Param, RunTag

        tags = {"model": config.name, **_origin(config, dataset)}
        made = client.create_run(experiment, run_name=run, tags=tags)
        client.log_batch(
            made.info.run_id,
            params=[Param(k, v[:MAX_VALUE_LENGTH]) for k, v in _parameters(config).items()],
            tags=[RunTag("seed", str(config.training.seed))],
        )
        return cls(client, made.info.run_id, clock)

    def epochs(self, ended: Iterable[Ended], rows_per_second: float | None = None) -> None:
        """Send the losses of epochs that are not there yet, in one call."""
        losses: list[tuple[str, float, int]] = []
        for stage, epoch in ended:
            key = "train_loss" if stage == "search" else "refit_train_loss"
            if epoch.number in self._sent[key]:
                continue
            self._sent[key].add(epoch.number)
            losses.append((key, epoch.train_loss, epoch.number))
            if epoch.stop_loss is not None:
                losses.append(("stop_loss", epoch.stop_loss, epoch.number))
        if losses and rows_per_second is not None:
            losses.append(("epoch_rows_per_second", rows_per_second, losses[-1][2]))
        if losses:
            self._log(losses)

    def finish(self, result: TrainingResult, folder: Path) -> None:
        """Send what came out, with every epoch that is missing and the bundle's files."""
        self.epochs(_epochs_of(folder))
        self._log([(key, value, 0) for key, value in _figures(result).items()])
        self._client.set_tag(self.run_id, "digest", result.version.digest)
        self._client.log_artifacts(self.run_id, str(folder), artifact_path="bundle")
        self._client.set_terminated(self.run_id)

    def fail(self, how: End, reason: str) -> None:
        """Say that the run ended without a version; the same name again goes on in it."""
        self._client.set_tag(self.run_id, "failure", reason[:MAX_VALUE_LENGTH])
        self._client.set_terminated(self.run_id, status=how)

    def _log(self, values: Sequence[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        at = int(self._clock().timestamp() * 1000)
        metrics = [Metric(key, value, at, step) for key, value, step in values]
        self._client.log_batch(self.run_id, metrics=metrics)


def open_experiment(config: Config) -> tuple[Any, str]:
    """Give MLflow's client and the id of the model's experiment, which is made where it is not."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=config.experiments_url)
    name = config.training.experiment
    if found := client.get_experiment_by_name(name):
        return client, str(found.experiment_id)
    location = (config.workspace / "experiments").as_uri()
    return client, str(client.create_experiment(name, artifact_location=location))


def _epochs_of(folder: Path) -> list[Ended]:
    """Read a bundle's epochs from its card."""
    card: Mapping[str, Any] = json.loads((folder / "card.json").read_bytes())
    search: list[Ended] = [("search", Epoch.model_validate(epoch)) for epoch in card["epochs"]]
    return search + [("refit", Epoch.model_validate(epoch)) for epoch in card["refit_epochs"]]


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


def _origin(config: Config, dataset: DatasetVersion) -> dict[str, str]:
    return {
        "data_digest": dataset.digest,
        "data_until": dataset.end.isoformat(),
        "code_version": code_version(),
        "config_digest": config.digest_of(*SECTIONS),
    }

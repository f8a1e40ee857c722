"""Show a search in MLflow: one run for the search, one below it for each trial that ended.

Knows records and MLflow; knows nothing of how a trial is fitted. A search that was resumed goes on
under its own run. Importing MLflow takes seconds, so it happens inside; each trial is one batch.
"""

from typing import Any

from app.config import Config
from app.contracts.records import DatasetVersion
from app.training.study import TrialRecord
from app.training.tracking import open_experiment
from app.training.tuning import SearchReport

STATUS = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
PARENT_TAG = "mlflow.parentRunId"


class TrackedSearch:
    """A search as MLflow shows it. Every method may raise MlflowException or OSError."""

    def __init__(self, config: Config, dataset: DatasetVersion, run: str, at_ms: int) -> None:
        """Find the run of a search, or create it; `at_ms` is when it began, since 1970."""
        self._client, self._experiment = open_experiment(config)
        self._run = run
        found = self._search(f"tags.search = '{run}' and tags.kind = 'search'", 1)
        if found:
            self._parent = str(found[0].info.run_id)
            self._client.update_run(self._parent, status="RUNNING")
        else:
            tags = {
                "kind": "search",
                "search": run,
                "model": config.name,
                "data_digest": dataset.digest,
            }
            created = self._client.create_run(self._experiment, at_ms, tags, run)
            self._parent = str(created.info.run_id)
        trials = self._search(f"tags.search = '{run}' and tags.kind = 'trial'", 5000)
        self._shown = {int(trial.data.tags["trial"]) for trial in trials}

    def show(self, trial: TrialRecord, at_ms: int) -> None:
        """Show a trial that ended at a time; one that is shown already is left as it is."""
        if trial.number in self._shown or trial.state == "unfinished":
            return
        from mlflow.entities import Metric, Param

        tags = {
            "kind": "trial",
            "search": self._run,
            "trial": str(trial.number),
            "state": trial.state,
            "reason": trial.reason,
            PARENT_TAG: self._parent,
        }
        began = at_ms - int(trial.seconds * 1000)
        name = f"{self._run}-{trial.number:03d}"
        child = self._client.create_run(self._experiment, began, tags, name).info.run_id
        metrics = [
            Metric(key, value, at_ms, epoch.number)
            for epoch in trial.epochs
            for key, value in (("train_loss", epoch.train_loss), ("stop_loss", epoch.stop_loss))
            if value is not None
        ]
        metrics.append(Metric("seconds", trial.seconds, at_ms, 0))
        if trial.loss is not None:
            metrics.append(Metric("loss", trial.loss, at_ms, 0))
        params = [Param(key, str(value)) for key, value in trial.values.items()]
        self._client.log_batch(child, metrics=metrics, params=params)
        self._client.set_terminated(child, STATUS[trial.state], at_ms)
        self._shown.add(trial.number)

    def close(self, report: SearchReport, at_ms: int) -> None:
        """Show what the search came to, and end its run."""
        from mlflow.entities import Metric, RunTag

        best = report.best
        metrics = [
            Metric("num_trials", len(report.trials), at_ms, 0),
            Metric("num_stopped_early", report.num_of("stopped"), at_ms, 0),
            Metric("seconds", report.seconds, at_ms, 0),
        ]
        tags = []
        if best is not None and best.loss is not None:
            metrics.append(Metric("best_loss", best.loss, at_ms, 0))
            tags = [RunTag("best_trial", str(best.number))]
            tags += [RunTag(f"best.{key}", str(value)) for key, value in best.values.items()]
        self._client.log_batch(self._parent, metrics=metrics, tags=tags)
        self._client.set_terminated(self._parent, "FINISHED", at_ms)

    def _search(self, condition: str, at_most: int) -> list[Any]:
        return list(self._client.search_runs([self._experiment], condition, max_results=at_most))

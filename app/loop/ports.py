"""The loop's real ports: training as a Ray job, gate and watch on bundles, switches at replicas.

Knows Ray's job client and the wall clock of waiting; knows nothing of when to act. Every port may
be called again under the same key.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ray.job_submission import JobSubmissionClient

from app.config import Config
from app.contracts.records import Decision, GateReport, ModelVersion, WatchReport
from app.ledger.database import Ledger
from app.loop.execution import StepFailed, Stopping
from app.loop.gate import judge
from app.loop.held_out import parts
from app.loop.recalibration import recalibrate
from app.loop.residency import Wish, await_replicas, follows, holds
from app.loop.scoring import Store
from app.loop.submission import failure_reason, job_state, training_command
from app.loop.watch import judge_watch
from app.registry.store import find_version, register_version, version_of_run
from app.session import PROJECT_ROOT

logger = logging.getLogger(__name__)
POLL_SECONDS = 0.5
REPLICA_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class RayPorts:
    """Ports of one model on a running cluster. `config_file` holds the effective configuration."""

    config: Config
    config_file: Path
    ledger: Ledger
    store: Store
    dashboard_url: str
    runtime_env: dict[str, Any]
    stopped: Callable[[], bool] = lambda: False

    def train(self, decision: Decision) -> ModelVersion:
        """Submit `jobs.train` under the step key, or await the job that has it already."""
        run, client = decision.key, JobSubmissionClient(self.dashboard_url)
        deadline = time.monotonic() + self.config.loop.governor.training_hours * 3600
        while (version := version_of_run(self.ledger, self.config.name, run)) is None:
            self._raise_if_stopped()
            info = _job_info(client, run)
            state = job_state(info.status if info else None)
            if state == "absent":
                self._submit(client, run, decision.at)
            elif state == "failed":
                raise StepFailed(
                    failure_reason(run, info.status, info.message, client.get_job_logs(run))
                )
            elif state == "succeeded":
                # It may have registered between the two looks.
                version = version_of_run(self.ledger, self.config.name, run)
                if version is None:
                    raise StepFailed(f"training job {run} succeeded and registered no version")
                break
            elif time.monotonic() > deadline:
                client.stop_job(run)
                hours = self.config.loop.governor.training_hours
                raise StepFailed(f"training job {run} was stopped after {hours:g} hours")
            time.sleep(POLL_SECONDS)
        return version

    def recalibrate(self, decision: Decision, champion: str) -> ModelVersion:
        """Fit a calibrator in this process and register the result under the step key."""
        found = version_of_run(self.ledger, self.config.name, decision.key)
        if found is not None:
            return found
        parent = find_version(self.ledger, champion)
        made = recalibrate(self.config, self.store, parent, decision.key, decision.at)
        return register_version(self.ledger, made)

    def judge(self, decision: Decision, candidate: str, champion: str | None) -> GateReport:
        """Compare on rows that both versions held out or have not seen."""
        new = find_version(self.ledger, candidate)
        old = find_version(self.ledger, champion) if champion is not None else None
        rows = self.store.gate_rows(new, old)
        part = parts(rows, new, self.config.contract) if new.held_out_share else None
        paired = self.store.paired(rows, champion, candidate, part)
        return judge(
            paired,
            self.config.loop.gate,
            self.config.training.seed,
            aim="calibration" if new.kind == "recalibrated" else "ranking",
            has_champion=champion is not None,
        )

    def compare_live(
        self, decision: Decision, champion: str, previous: str, since: datetime, final: bool
    ) -> WatchReport:
        """Compare on the rows since the promotion whose outcomes are known by now."""
        rows = self.store.outcomes(since, decision.at, decision.at)
        paired = self.store.paired(rows, previous, champion)
        loop = self.config.loop
        return judge_watch(paired, loop.watch, loop.gate, self.config.training.seed, final=final)

    def alert(self, decision: Decision) -> None:
        """Put the alert into the log; the journal holds it already."""
        logger.warning("%s: %s", decision.key, "; ".join(decision.action.reasons))

    def await_resident(self, decision: Decision, version: str, generation: int) -> Sequence[str]:
        """Wait until every live replica holds the version."""
        return self._await(holds(version, generation))

    def await_switch(self, decision: Decision, generation: int) -> Sequence[str]:
        """Wait until every live replica follows the generation."""
        return self._await(follows(generation))

    def _await(self, wish: Wish) -> list[str]:
        patience, stop = REPLICA_PATIENCE_SECONDS, self._raise_if_stopped
        return await_replicas(self.ledger, self.config.name, wish, patience, time.time, stop)

    def _submit(self, client: JobSubmissionClient, run: str, until: datetime) -> None:
        try:
            client.submit_job(
                entrypoint=training_command(self.config_file, run, until),
                submission_id=run,
                runtime_env=self.runtime_env,
                metadata={"model": self.config.name, "run": run},
            )
        except RuntimeError:
            # Another steward may have submitted it at the same instant: then it exists now.
            if _job_info(client, run) is None:
                raise

    def _raise_if_stopped(self) -> None:
        if self.stopped():
            raise Stopping("the steward was told to stop")


def job_environment() -> dict[str, Any]:
    """Let a submitted job import this code from where the steward has it."""
    return {"env_vars": {"PYTHONPATH": str(PROJECT_ROOT)}}


def _job_info(client: JobSubmissionClient, run: str) -> Any:
    """Give what the cluster knows of a job, None when it does not know it."""
    known = {job.submission_id: job for job in client.list_jobs()}
    return known.get(run)

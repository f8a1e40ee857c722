"""Decide what to do about a training job, given what its cluster says.

Knows job states and commands; knows nothing of Ray's client.
"""

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

JobState = Literal["absent", "running", "succeeded", "failed"]
_STATES: dict[str, JobState] = {
    "PENDING": "running",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "STOPPED": "failed",
    "FAILED": "failed",
}
_LOG_LINES = 3


def job_state(status: str | None) -> JobState:
    """Translate a job status of the cluster; None means that it knows no such job."""
    return "absent" if status is None else _STATES[status.upper()]


def training_command(config_file: Path, run: str, until: datetime) -> str:
    """Give the command line that trains and registers one version; times are UTC, to the second.

    >>> moment = datetime(2013, 4, 1, tzinfo=UTC)
    >>> training_command(Path("f.yaml"), "f-0001-retrain", moment).split(" -m ")[1]
    'jobs.train --config f.yaml --until 2013-04-01T00:00:00 --run f-0001-retrain --register'
    """
    words = [sys.executable, "-m", "jobs.train", "--config", str(config_file)]
    moment = until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    words += ["--until", moment, "--run", run, "--register"]
    return shlex.join(words)


def failure_reason(run: str, status: str, message: str | None, logs: str) -> str:
    """Say why a job failed: its own last words are worth more than the cluster's."""
    lines = [line.strip() for line in logs.splitlines() if line.strip()]
    said = " | ".join(lines[-_LOG_LINES:]) or (message or "it left no output")
    return f"training job {run} ended as {status.lower()}: {said[-600:]}"

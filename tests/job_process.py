"""A job in a process of its own, as a person runs it: what may be killed, and what it prints."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def start_job(
    job: str, config: Path, log: Path, *arguments: str, **environment: str
) -> subprocess.Popen[str]:
    """Start `python -m jobs.<job>` with a cluster of its own; what it says is added to the log."""
    command = [sys.executable, "-m", f"jobs.{job}", "--config", str(config), *arguments]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with log.open("a") as told:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=inherited | environment,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        )


def finish_job(process: subprocess.Popen[str], log: Path, seconds: float) -> dict[str, Any]:
    """Await the end, which must be a good one; give the record of the last line."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, log.read_text()[-3000:]
    record: dict[str, Any] = json.loads(output.splitlines()[-1])
    return record


@contextlib.contextmanager
def serve_job(config: Path, log: Path) -> Iterator[str]:
    """Run the job that serves, with a cluster of its own; give the URL that it says."""
    job = start_job("deploy", config, log, RAY_AUTH_MODE="disabled")
    try:
        assert job.stdout is not None
        line = job.stdout.readline()
        assert line, log.read_text()[-3000:]
        yield json.loads(line)["url"]
    finally:
        job.send_signal(signal.SIGTERM)
        job.wait(120)

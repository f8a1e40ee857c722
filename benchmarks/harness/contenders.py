"""Run contenders one at a time, each in a fresh process that is warmed before it is timed.

A contender is a module that reads one JSON command a line and answers each with one JSON line. It
is started for one round and ended after it, so that none idles beside another.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.costs import cpu_seconds, watched_memory

ROOT = Path(__file__).resolve().parent.parent.parent
DONE = "done"


@dataclass(frozen=True)
class Cost:
    """What one round of a contender cost, its start and its warming apart."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    idle_mb: float
    start_wall_s: float
    start_cpu_s: float


class ContenderFailed(RuntimeError):
    """A contender ended, or said that it could not do its work."""


def run_round(
    module: str,
    warming: Mapping[str, object],
    work: Mapping[str, object],
    cores: Sequence[int],
    environment: Mapping[str, str],
) -> Cost:
    """Start a contender, warm it, do the work once, and end it."""
    began = time.perf_counter()
    with started(module, environment, cores) as process:
        _order(process, warming)
        start_wall, start_cpu = time.perf_counter() - began, cpu_seconds(process.pid)
        with watched_memory(process.pid) as peak:
            began = time.perf_counter()
            _order(process, work)
            wall = time.perf_counter() - began
        cpu = cpu_seconds(process.pid) - start_cpu
    return Cost(wall, cpu, peak.peak_mb, peak.idle_mb, start_wall, start_cpu)


def medians(costs: Sequence[Cost]) -> Cost:
    """Take the median of each figure."""
    names = Cost.__dataclass_fields__
    return Cost(**{name: statistics.median(getattr(c, name) for c in costs) for name in names})


@contextlib.contextmanager
def started(
    module: str,
    environment: Mapping[str, str],
    cores: Sequence[int] | None = None,
    python: str = sys.executable,
) -> Iterator["subprocess.Popen[str]"]:
    """Run a contender for the length of a `with` block, on some cores or on all."""
    process = subprocess.Popen(
        [python, "-m", module],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores or os.sched_getaffinity(0)),
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        # An end of input is the word to end, and a cluster takes a moment for it.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait(120)


def ask(process: "subprocess.Popen[str]", command: Mapping[str, object]) -> Any:
    """Give a contender one command, and return its answer. Raises ContenderFailed without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if not answer:
        raise ContenderFailed(f"{process.args!r} ended with {process.wait(60)}; see its messages")
    return json.loads(answer)


def _order(process: "subprocess.Popen[str]", command: Mapping[str, object]) -> None:
    answer = ask(process, command)
    if answer != DONE:
        raise ContenderFailed(f"{process.args!r} answered {answer}")


def answer_commands(act: Callable[..., object]) -> None:
    """Be a contender: do what each line says, and answer its outcome, until there are no more."""
    for line in sys.stdin:
        outcome = act(**json.loads(line))
        sys.stdout.write(json.dumps(DONE if outcome is None else outcome) + "\n")
        sys.stdout.flush()

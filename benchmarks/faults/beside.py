"""Serve at a constant rate while a training job runs on the same cores and the same cluster.

`jobs.train` fits a network on workers of the cluster that serves. It is measured in rounds: while
its workers are stopped, and while they go on, so that a machine's moods fall on both. Before it,
too, and while it starts.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from app.config import show_config
from app.training.progress import FILE
from benchmarks.faults.world import (
    Generator,
    endpoint,
    generating,
    late_ms,
    median,
    percentile_ms,
    statuses,
)
from benchmarks.harness.costs import cpu_seconds
from benchmarks.serving.steady import Sent, steady
from tests.job_process import start_job
from tests.learning_world import END, fill_tables, make_config, make_rows

RUN = "beside"
START_SECONDS = 180.0
NUM_TRAINING_ROWS = 40_000
# What Ray calls the processes that fit, and those that answer.
WORKER, REPLICA = "ray::RayTrainWorker", "ray::ServeReplica"


@dataclass(frozen=True)
class Dials:
    """How large, how fast, how long, and how training gives way."""

    hidden: int = 1024
    rate: float = 15.0
    seconds: float = 15.0
    rounds: int = 3
    background: str = "nice"
    rows: int = 32


@dataclass(frozen=True)
class Round:
    """What one round heard, and how many CPU seconds a second the fit took."""

    idle: Sequence[Sent]
    beside: Sequence[Sent]
    cores_of_training: float

    @property
    def figures(self) -> dict[str, float]:
        """Give the figures that the rounds' medians are taken of."""
        told = {
            f"{name}_p{round(100 * share)}_ms": percentile_ms(sent, share)
            for name, sent in (("idle", self.idle), ("beside", self.beside))
            for share in (0.5, 0.99)
        }
        return told | {
            "p50_vs_idle": told["beside_p50_ms"] / told["idle_p50_ms"],
            "p99_vs_idle": told["beside_p99_ms"] / told["idle_p99_ms"],
            "cores_of_training": self.cores_of_training,
        }


def measure(folder: Path, dials: Dials) -> dict[str, Any]:
    """Serve, train beside it, and give medians, counts and the rounds' own figures."""
    with (
        endpoint(folder, dials.hidden, {"num_replicas": 1}) as served,
        generating(served, served.key("shop"), dials.rows) as send,
    ):
        before = steadily(send, dials)
        with training(folder, dials.background) as job:
            starting = steadily(send, dials)
            await_fit(folder)
            rounds = [one_round(send, dials) for _ in range(dials.rounds)]
            fitting = [psutil.Process(job.pid), *below(WORKER)]
            niceness = [
                sorted({each.nice() for each in some}) for some in (below(REPLICA), fitting)
            ]
    figures = [each.figures for each in rounds]
    every = [*before, *starting, *(s for each in rounds for s in (*each.idle, *each.beside))]
    return {
        **{name: median([each[name] for each in figures]) for name in figures[0]},
        "before_p99_ms": percentile_ms(before, 0.99),
        "starting_p99_ms": percentile_ms(starting, 0.99),
        "statuses": statuses(every),
        "late_p99_ms": late_ms(every),
        "background": dials.background,
        "niceness_of_replicas": niceness[0],
        "niceness_of_training": niceness[1],
        "rounds": figures,
    }


def steadily(send: Generator, dials: Dials) -> list[Sent]:
    """Send at the constant rate."""
    return send(dues=steady(dials.rate, dials.seconds))


def one_round(send: Generator, dials: Dials) -> Round:
    """Measure with the workers stopped, and with them at work."""
    workers = below(WORKER)
    _signal(workers, signal.SIGSTOP)
    idle = steadily(send, dials)
    _signal(workers, signal.SIGCONT)
    began = _cpu(workers)
    beside = steadily(send, dials)
    return Round(idle, beside, (_cpu(workers) - began) / dials.seconds)


@contextlib.contextmanager
def training(folder: Path, background: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `jobs.train`, for longer than anybody waits, on the cluster that serves here."""
    config = make_config(
        folder / "training",
        epochs=10_000,
        patience=10_000,
        batch_rows=1024,
        threads_per_worker=2,
        network={"hidden": 256, "num_layers": 2, "num_members": 8},
    )
    cluster = config.cluster.model_copy(update={"background": background})
    config = config.model_copy(update={"cluster": cluster, "clock": "wall"})
    fill_tables(config, make_rows(NUM_TRAINING_ROWS))
    file = folder / "training.yaml"
    file.write_text(show_config(config))
    more = ("--run", RUN, "--until", f"{END:%Y-%m-%d}", "--no-tracking")
    environment = {"RAY_ADDRESS": address_here(), "RAY_AUTH_MODE": "disabled"}
    job = start_job("train", file, folder / "training.log", *more, **environment)
    try:
        yield job
        assert job.poll() is None, (folder / "training.log").read_text()[-3000:]
    finally:
        job.send_signal(signal.SIGTERM)
        job.wait(60)


def address_here() -> str:
    """Find the cluster that a child of this process started."""
    for child in psutil.Process().children(recursive=True):
        words = child.cmdline()
        if "start" in words and "--head" in words:
            port = next(word for word in words if word.startswith("--port="))
            return f"127.0.0.1:{port.partition('=')[2]}"
    raise LookupError("no child of this process has started a cluster")


def await_fit(folder: Path) -> None:
    """Wait until workers have begun an epoch. Raises TimeoutError."""
    record = folder / "training" / "runs" / RUN / FILE
    deadline = time.monotonic() + START_SECONDS
    while not record.exists() or not below(WORKER):
        if time.monotonic() > deadline:
            told = (folder / "training.log").read_text()[-3000:]
            raise TimeoutError(f"no epoch within {START_SECONDS} s: {told}")
        time.sleep(0.2)


def below(name: str) -> list[psutil.Process]:
    """Find the processes below this one that Ray calls so."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [each] if "".join(each.cmdline()).startswith(name) else []
    return found


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        os.kill(process.pid, number)


def _cpu(processes: Sequence[psutil.Process]) -> float:
    return sum(cpu_seconds(process.pid) for process in processes)

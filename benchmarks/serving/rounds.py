"""Run one round of a contender beside the anchor: start both, warm, load, count what they cost."""

import contextlib
import itertools
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.harness.contenders import ContenderFailed, ask, started
from benchmarks.harness.costs import tree
from benchmarks.serving.bodies import Kind
from benchmarks.serving.contenders import Contender
from benchmarks.serving.world import World

READY_SECONDS = 180.0
WARMING_SECONDS = 1.0
IDLE_SECONDS = 3.0
# What a server puts off until after its answers is work for them all the same.
SETTLING_SECONDS = 1.5
REPLICA = re.compile(r"ServeReplica")
# These do nothing but pass requests on: what they take is requests'.
FRONTS = ("haproxy", "nginx")
LOAD = "benchmarks.serving.load"


class Wrong(RuntimeError):
    """A contender did not answer what the bundle says."""


@dataclass(frozen=True)
class Load:
    """How callers call."""

    callers: int
    seconds: float
    rows: int = 1
    kind: Kind = "row"


@dataclass(frozen=True)
class Measured:
    """What callers met, and what it cost."""

    requests: int
    requests_per_s: float
    rows_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU microseconds a request of all processes, over what those beside the replica take idle."""
    cpu_replica_us: float
    """Of the process that answers alone; where a server is one tree, of that."""
    cpu_front_us: float
    """Of HAProxy and nginx."""


@dataclass(frozen=True)
class Spent:
    """CPU seconds of a tree since its processes began: replicas', fronts', and all others'."""

    replica: float
    front: float
    others: float

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(
            self.replica - other.replica, self.front - other.front, self.others - other.others
        )


def spent(pid: int) -> Spent:
    """Count CPU; where there is no replica of Serve, all of it is the server's own."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds[_part(process)] += (
                times.user + times.system + times.children_user + times.children_system
            )
    if "replica" not in seconds:
        return Spent(seconds["others"], seconds["front"], 0.0)
    return Spent(seconds["replica"], seconds["front"], seconds["others"])


def _part(process: psutil.Process) -> str:
    if process.name() in FRONTS:
        return "front"
    return "replica" if REPLICA.search(" ".join(process.cmdline())) else "others"


class Running:
    """A contender that answers, and callers who are ready."""

    def __init__(
        self, process: "subprocess.Popen[str]", callers: "subprocess.Popen[str]", target: Any
    ) -> None:
        """Take both, and what to call."""
        self.pid = process.pid
        self._callers = callers
        self.target = target
        self._idle: float | None = None

    def measure(self, load: Load) -> Measured:
        """Warm, load, let settle. Raises Wrong for any answer that is not the bundle's."""
        self.call(Load(load.callers, WARMING_SECONDS, load.rows))
        time.sleep(SETTLING_SECONDS)
        idle = self._idle_rate()
        before, began = spent(self.pid), time.perf_counter()
        heard = self.call(load)
        time.sleep(SETTLING_SECONDS)
        cost, elapsed = spent(self.pid) - before, time.perf_counter() - began
        extra = max(cost.others - idle * elapsed, 0.0)
        number = heard["requests"]
        return Measured(
            requests=number,
            requests_per_s=heard["requests_per_s"],
            rows_per_s=heard["requests_per_s"] * load.rows,
            p50_ms=heard["p50_ms"],
            p99_ms=heard["p99_ms"],
            cpu_us=(cost.replica + cost.front + extra) / number * 1e6,
            cpu_replica_us=cost.replica / number * 1e6,
            cpu_front_us=cost.front / number * 1e6,
        )

    def call(self, load: Load) -> dict[str, Any]:
        """Let callers call; every answer must be right."""
        command = {"num_callers": load.callers, "seconds": load.seconds}
        heard: dict[str, Any] = ask(
            self._callers, {**self.target, **command, "rows_per_request": load.rows}
        )
        if set(heard["statuses"]) != {"200"} or heard["num_wrong"]:
            raise Wrong(f"statuses {heard['statuses']}, {heard['num_wrong']} wrong: {heard}")
        return heard

    def _idle_rate(self) -> float:
        """Measure once what the processes beside the replica take when nobody calls."""
        if self._idle is None:
            before, began = spent(self.pid), time.perf_counter()
            time.sleep(IDLE_SECONDS)
            self._idle = (spent(self.pid) - before).others / (time.perf_counter() - began)
        return self._idle


@contextlib.contextmanager
def running(
    contender: Contender, world: World, kind: Kind = "row", python: str = sys.executable
) -> Iterator[Running]:
    """Have a contender up for a `with` block. Raises ContenderFailed when it does not get up."""
    module = f"benchmarks.serving.{contender.module}"
    with (
        started(module, contender.environment, python=python) as process,
        started(LOAD, {}) as callers,
    ):
        answer = ask(process, contender.command(world))
        form = vars(contender.form(world, kind))
        target = {"file": str(world.requests), "form": form, **answer}
        up = Running(process, callers, target)
        _await(up)
        yield up


def _await(up: Running) -> None:
    """Wait until one right answer comes: a champion is resident after its replica is up."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            up.call(Load(1, 0.0))
        except Wrong as error:
            if time.monotonic() > deadline:
                raise ContenderFailed(f"no right answer in {READY_SECONDS} s: {error}") from error
            time.sleep(0.5)
        else:
            return


def one_round(
    contender: Contender,
    anchor: Contender,
    world: World,
    loads: Sequence[Load],
    python: str = sys.executable,
    slices: int = 1,
) -> Iterator[tuple[int, Load, Measured, Measured]]:
    """Measure each load of a contender and, at once before it, the same load of the anchor.

    Gives the number of the slice, the load, and the figures of both, for each slice.

    A shared machine's speed wanders by half within minutes, and starting takes one: what is divided
    by each other is measured seconds apart. The anchor is a process that idles at no cost.
    """
    kind = loads[0].kind
    with running(anchor, world, kind) as below, running(contender, world, kind, python) as up:
        for number, load in itertools.product(range(slices), loads):
            theirs = below.measure(load)
            yield number, load, up.measure(load), theirs

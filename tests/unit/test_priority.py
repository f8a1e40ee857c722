"""Work that gives way: asked of the system itself, in threads that end with the test."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from app.priority import NICE, give_way, worker_variables
from app.sections.running import Background, ClusterConfig

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="niceness is a thread's on Linux")


def in_a_thread(work: Callable[[], object]) -> object:
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(work()))
    thread.start()
    thread.join()
    return seen[0]


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@needs_linux
@pytest.mark.parametrize(("how", "least"), [("equal", None), ("nice", NICE), ("idle", NICE)])
def test_a_thread_gives_way_and_what_it_starts_does_too(how: Background, least: int | None) -> None:
    before = niceness()
    told = "import os; print(os.nice(0), os.sched_getscheduler(0))"

    def work() -> tuple[int, int, str]:
        give_way(how)
        child = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True)
        return niceness(), os.sched_getscheduler(0), child.stdout

    mine, policy, child = in_a_thread(work)  # type: ignore[misc]
    # Tests may themselves run at any niceness, below the usual one too.
    expected = before if least is None else max(least, before)
    assert mine == expected
    assert policy == (os.SCHED_IDLE if how == "idle" else os.sched_getscheduler(0))
    assert child == f"{expected} {policy}\n"
    # Whoever asked for it, and nobody else.
    assert niceness() == before


def test_workers_of_a_job_are_told_unless_they_are_equal() -> None:
    assert worker_variables("equal") == {}
    assert worker_variables("nice") == {"RAY_worker_niceness": str(NICE)}
    assert worker_variables("idle") == {"RAY_worker_niceness": str(NICE)}
    assert ClusterConfig().background == "nice"

"""Say what a process and all that it started cost: CPU seconds and resident memory.

The CPU of a process that ended stays in the count: Linux hands it to the parent that waits for it,
and every living process of the tree is asked for its own and for that of its ended children.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psutil

SAMPLE_SECONDS = 0.1
MEGABYTE = 2**20


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all its living descendants."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """Add up user and system time of a tree since its processes began."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_mb(pid: int) -> float:
    """Add up the resident memory of a tree; pages that processes share count for each of them."""
    total = 0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / MEGABYTE


def proportional_mb(pid: int) -> float:
    """Add up the memory of a tree, a page that processes share once in all.

    It is what the tree takes from the machine, but for pages that others use too. Asking costs a
    walk over every page: seldom, and not while somebody is timed.
    """
    total = 0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().pss
    return total / MEGABYTE


@dataclass
class Peak:
    """Resident memory before, and at its highest since."""

    idle_mb: float
    peak_mb: float = field(default=0.0)


@contextlib.contextmanager
def watched_memory(
    pid: int, measure: Callable[[int], float] = resident_mb, seconds: float = SAMPLE_SECONDS
) -> Iterator[Peak]:
    """Note the highest memory of a tree during a `with` block, by default ten times a second."""
    peak = Peak(measure(pid))
    done = threading.Event()

    def watch() -> None:
        while not done.wait(seconds):
            peak.peak_mb = max(peak.peak_mb, measure(pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak.peak_mb = max(peak.peak_mb, measure(pid))

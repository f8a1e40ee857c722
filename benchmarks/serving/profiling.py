"""Say which functions a replica spends its time in, by py-spy if it is installed."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness.costs import tree
from benchmarks.serving.rounds import REPLICA, Load, Running

SAMPLES_A_SECOND = 200
TOP = 25
LINE = re.compile(r":\d+\)$")
# Where a thread sleeps, though the profiler takes it for busy.
WAITING = ("Thread.run (", "Worker.main_loop (", "Condition.wait (", "_worker (", "_poll (")


def find_profiler() -> str | None:
    """Find py-spy beside this interpreter or on the path."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if beside.exists() else shutil.which("py-spy")


def profile(up: Running, load: Load) -> Iterator[str]:
    """Load a replica and give the functions it is in most, alone and with all they call."""
    profiler = find_profiler()
    if profiler is None:
        yield "py-spy is not installed: no profile"
        return
    pid = next(p.pid for p in tree(up.pid) if REPLICA.search(" ".join(p.cmdline())))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stacks"
        length = ["--duration", str(int(load.seconds)), "--rate", str(SAMPLES_A_SECOND)]
        watcher = subprocess.Popen(
            [profiler, "record", "--format", "raw", *length, "-o", file, "--pid", str(pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        up.call(load)
        watcher.wait(60)
        yield from _top(file.read_text())


def _top(stacks: str) -> Iterator[str]:
    """Read lines of frames and a count: `outer;inner;innermost 12`."""
    alone, whole = Counter[str](), Counter[str]()
    for line in stacks.splitlines():
        frames, _, number = line.rpartition(" ")
        names = [LINE.sub(")", frame) for frame in frames.split(";")]
        if names[-1].startswith(WAITING):
            continue
        alone[names[-1]] += int(number)
        whole.update(dict.fromkeys(names, int(number)))
    total = alone.total() or 1
    for title, counts in (("in it", alone), ("in it and below", whole)):
        yield f"share of samples {title}:"
        for name, number in counts.most_common(TOP):
            yield f"  {number / total:6.1%}  {name}"

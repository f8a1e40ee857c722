"""Load that grows from 10 to 3,000 requests a minute in a minute: nobody is refused, replicas grow.

The last rate goes on for a minute, in which answers must be within the objective again; then one
request a second is left, and replicas must shrink. They are counted by what they tell the ledger.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.world import (
    Endpoint,
    endpoint,
    generating,
    late_ms,
    percentile_ms,
    statuses,
)
from benchmarks.serving.steady import Sent, ramp, steady

FIRST, LAST = 10 / 60, 3000 / 60
MIN_REPLICAS, MAX_REPLICAS = 1, 3
AFTER = 1.0
SAMPLE_SECONDS = 0.5
WINDOW_SECONDS = 5.0


@dataclass(frozen=True)
class Dials:
    """How large, how long, what is promised."""

    hidden: int = 1024
    objective_ms: float = 150.0
    ongoing_per_replica: float = 0.3
    ramp_seconds: float = 60.0
    hold_seconds: float = 60.0
    shrink_seconds: float = 90.0


@dataclass
class Counted:
    """How many replicas there were, each time the number changed: seconds and number."""

    changes: list[tuple[float, int]]

    def most(self) -> int:
        """Give the largest number."""
        return max(number for _, number in self.changes)

    def now(self) -> int:
        """Give the latest number."""
        return self.changes[-1][1]


def measure(folder: Path, dials: Dials) -> dict[str, Any]:
    """Serve, let the load grow, hold it, let it go, and tell what was seen."""
    scaling = (
        f"{{min_replicas: {MIN_REPLICAS}, max_replicas: {MAX_REPLICAS}, "
        f"ongoing_per_replica: {dials.ongoing_per_replica}, upscale_seconds: 2, "
        f"downscale_seconds: 10, latency_objective_ms: {dials.objective_ms}}}"
    )
    with endpoint(folder, dials.hidden, {"scaling": scaling}) as served:
        return run(served, dials)


def run(served: Endpoint, dials: Dials) -> dict[str, Any]:
    """Send, and count replicas meanwhile."""
    held = steady(LAST, dials.hold_seconds)
    dues = ramp(FIRST, LAST, dials.ramp_seconds)
    dues += [dials.ramp_seconds + due for due in held]
    began = time.monotonic()
    with (
        generating(served, served.key("shop")) as send,
        counting(served) as counted,
        ThreadPoolExecutor(1) as pool,
    ):
        sent = send(dues=dues)
        grown = counted.most()
        little = pool.submit(send, dues=steady(AFTER, dials.shrink_seconds))
        shrunk = await_number(counted, MIN_REPLICAS, dials.shrink_seconds)
        after = little.result()
    return {
        "statuses": statuses(sent),
        "statuses_after": statuses(after),
        "late_p99_ms": late_ms(sent),
        "objective_ms": dials.objective_ms,
        "p99_of_ramp_ms": percentile_ms(between(sent, 0, dials.ramp_seconds), 0.99),
        "p99_last_30_s_ms": percentile_ms(between(sent, dues[-1] - 30, dues[-1] + 1), 0.99),
        "back_within_objective_s": seconds_until_good(sent, dials),
        "most_replicas": grown,
        "replicas_at_the_end": counted.now(),
        "shrunk_after_s": shrunk,
        "replicas": [(round(at - began, 1), number) for at, number in counted.changes],
        "p99_by_5_s_ms": [round(each) for each in by_window(sent)],
    }


@contextmanager
def counting(served: Endpoint) -> Iterator[Counted]:
    """Count replicas until the block ends."""
    counted, done = Counted([(time.monotonic(), served.num_ready())]), threading.Event()

    def count() -> None:
        while not done.wait(SAMPLE_SECONDS):
            number = served.num_ready()
            if number != counted.now():
                counted.changes.append((time.monotonic(), number))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield counted
    finally:
        done.set()
        thread.join()


def await_number(counted: Counted, number: int, seconds: float) -> float | None:
    """Wait until there are so many; give the seconds that it took, None where it did not happen."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if counted.now() == number:
            return round(time.monotonic() - began, 1)
        time.sleep(SAMPLE_SECONDS)
    return None


def between(sent: Sequence[Sent], first: float, last: float) -> list[Sent]:
    """Give the requests that were due in these seconds."""
    return [each for each in sent if first <= each.due < last]


def by_window(sent: Sequence[Sent]) -> list[float]:
    """Give the 99th percentile of each five seconds, in milliseconds."""
    end = max(each.due for each in sent)
    numbers = range(int(end / WINDOW_SECONDS) + 1)
    windows = (between(sent, n * WINDOW_SECONDS, (n + 1) * WINDOW_SECONDS) for n in numbers)
    return [percentile_ms(window, 0.99) for window in windows if window]


def seconds_until_good(sent: Sequence[Sent], dials: Dials) -> float | None:
    """Say from how many seconds after the ramp each window was within the objective to the end."""
    after = (each._replace(due=each.due - dials.ramp_seconds) for each in sent)
    windows = by_window([each for each in after if each.due >= 0])
    bad = [number for number, p99 in enumerate(windows) if p99 > dials.objective_ms]
    first_good = max(bad, default=-1) + 1
    return None if first_good == len(windows) else first_good * WINDOW_SECONDS

"""Say how many replicas a load needs: by requests under way, and by how long answers take.

Pure: knows figures and a configuration; knows nothing of Ray, of time, or of who adds replicas.
Bounds and delays are applied by who carries it out.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from app.sections import ScalingConfig

# Answers of so many seconds tell how long answers take now.
WINDOW_SECONDS = 10.0
KEPT_ANSWERS = 4096
# Under this share of the objective there is room to do with one replica fewer.
ROOM = 0.5
# Objectives are missed by queues, which grow faster than one replica more can drain them.
GROWTH = 1.5


class Wanted(NamedTuple):
    """How many replicas, and why."""

    num_replicas: int
    why: str


def replicas_wanted(
    current: int, ongoing: float, latencies_ms: Sequence[float], scaling: ScalingConfig
) -> Wanted:
    """Say how many replicas are wanted, of `current` that answer now.

    `ongoing` is all requests under way; `latencies_ms` has the 95th percentile of each replica
    that has answered lately. Their median is held against the objective, so that one replica on a
    slow machine does not scale the others.

    >>> replicas_wanted(2, 40.0, [], ScalingConfig(ongoing_per_replica=8))
    Wanted(num_replicas=5, why='40.0 requests under way, 8 a replica')
    """
    by_load = max(1, math.ceil(ongoing / scaling.ongoing_per_replica))
    wanted = Wanted(
        by_load, f"{ongoing:.1f} requests under way, {scaling.ongoing_per_replica:g} a replica"
    )
    objective = scaling.latency_objective_ms
    if objective is None or not latencies_ms:
        return wanted
    latency = sorted(latencies_ms)[len(latencies_ms) // 2]
    if latency > objective:
        grown = max(math.ceil(current * GROWTH), current + 1, by_load)
        return Wanted(grown, f"answers take {latency:.1f} ms, objective {objective:g}")
    if by_load >= current:
        return wanted
    # What is fast because there are many replicas may be slow with few: one at a time.
    if latency < ROOM * objective:
        return Wanted(current - 1, f"answers take {latency:.1f} ms, under half of {objective:g}")
    return Wanted(current, f"answers take {latency:.1f} ms of {objective:g}")


class Latencies:
    """How long the answers of the last seconds took. One event loop writes and reads."""

    def __init__(self) -> None:
        """Begin without an answer."""
        self._answers: deque[tuple[float, float]] = deque(maxlen=KEPT_ANSWERS)

    def add(self, at: float, seconds: float) -> None:
        """Note an answer that was given at a time, in seconds of any steady clock."""
        self._answers.append((at, seconds))

    def percentile_ms(self, at: float, share: float = 0.95) -> float:
        """Give a percentile in milliseconds; 0 without an answer within the window."""
        recent = sorted(took for when, took in self._answers if at - when <= WINDOW_SECONDS)
        return 1000 * recent[min(int(share * len(recent)), len(recent) - 1)] if recent else 0.0

"""Ten times overload: who is answered is answered soon, the others are told at once.

In rounds that are interleaved: what an answer takes at a fifth of the capacity; the capacity, the
most that callers in a closed loop get; then, in an open loop, ten times as much, by one caller who
may and beside it by one who is over its rate. Most are turned away by nginx, which keeps as many
under way as its limit says, the others by replicas, whose 503 comes through HAProxy as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.contracts.access import Limits
from benchmarks.faults.world import (
    EDGE_LIMIT,
    Endpoint,
    Generator,
    endpoint,
    generating,
    goodput,
    late_ms,
    median,
    percentile_ms,
    refusals,
    statuses,
)
from benchmarks.serving.steady import Sent, steady

NUM_REPLICAS = 2
FACTOR = 10.0
UNLOADED_SHARE = 0.2
CALLERS = (2, 4, 6)
# One more than the replicas work at or hold ready: whom a replica turns away has held a place here.
AT_THE_EDGE = 5
CONNECTIONS = 64
GREEDY_RATE = 5.0


@dataclass(frozen=True)
class Dials:
    """How large, how long, how often."""

    hidden: int = 3072
    max_wait_ms: float = 150.0
    seconds: float = 15.0
    rounds: int = 3


@dataclass(frozen=True)
class Round:
    """What one round heard."""

    unloaded: Sequence[Sent]
    capacity: float
    """Answers a second."""
    offered: float
    """Requests a second."""
    overloaded: Sequence[Sent]
    greedy: Sequence[Sent]
    direct: Sequence[Sent]
    """Sent to HAProxy itself, where nobody but replicas turns away."""
    seconds: float

    @property
    def figures(self) -> dict[str, float]:
        """Give the figures that the rounds' medians are taken of."""
        unloaded = percentile_ms(self.unloaded, 0.99)
        accepted = percentile_ms(self.overloaded, 0.99)
        answered = goodput(self.overloaded, self.seconds)
        return {
            "unloaded_p50_ms": percentile_ms(self.unloaded, 0.5),
            "unloaded_p99_ms": unloaded,
            "accepted_p50_ms": percentile_ms(self.overloaded, 0.5),
            "accepted_p99_ms": accepted,
            "p99_vs_unloaded": accepted / unloaded,
            "capacity_per_s": self.capacity,
            "offered_per_s": self.offered,
            "offered_vs_capacity": self.offered / self.capacity,
            "goodput_per_s": answered,
            "goodput_vs_capacity": answered / self.capacity,
        }


def measure(folder: Path, dials: Dials) -> dict[str, Any]:
    """Serve, run the rounds, and give medians, counts and the rounds' own figures."""
    serving = {"num_replicas": NUM_REPLICAS, "max_wait_ms": dials.max_wait_ms}
    limit = {EDGE_LIMIT: f"mainspring_under_way {AT_THE_EDGE}"}
    with endpoint(folder, dials.hidden, serving, limit) as served:
        rounds = run_rounds(served, dials)
        tries = tries_of(served)
    figures = [each.figures for each in rounds]
    every = [s for each in rounds for s in (*each.overloaded, *each.greedy)]
    direct = [s for each in rounds for s in each.direct]
    return {
        **{name: median([each[name] for each in figures]) for name in figures[0]},
        "statuses": statuses(every),
        "refusals": refusals(every),
        "statuses_haproxy": statuses(direct),
        "refusals_haproxy": refusals(direct),
        "statuses_unloaded": statuses([s for each in rounds for s in each.unloaded]),
        "most_tries": tries,
        "late_p99_ms": late_ms(every),
        "rounds": figures,
    }


def run_rounds(served: Endpoint, dials: Dials) -> list[Round]:
    """Run them one after the other."""
    shop, greedy = served.key("shop"), served.key("greedy", Limits(requests_per_second=GREEDY_RATE))
    with generating(served, shop) as send, generating(served, greedy) as send_greedily:
        # The first answers of a replica are slow, and no pace is known before.
        capacity_of(send, dials.seconds / 5)
        return [one_round(send, send_greedily, dials.seconds) for _ in range(dials.rounds)]


def one_round(send: Generator, send_greedily: Generator, seconds: float) -> Round:
    """Measure unloaded, the capacity, and beyond it."""
    capacity = capacity_of(send, seconds / 3)
    unloaded = send(dues=steady(UNLOADED_SHARE * capacity, 2 * seconds))
    offered = FACTOR * capacity
    overloaded = send(dues=steady(offered, seconds), num_connections=CONNECTIONS)
    # In a second of its own: all answers of the one above are those of a caller who may.
    greedy = send_greedily(dues=steady(10 * GREEDY_RATE, 2))
    direct = send(dues=steady(offered, seconds / 3), num_connections=CONNECTIONS, direct=True)
    return Round(unloaded, capacity, offered, overloaded, greedy, direct, seconds)


def capacity_of(send: Generator, seconds: float) -> float:
    """Give the most answers a second that callers in a closed loop got, of several numbers."""
    return max(goodput(send(callers=[number, seconds]), seconds) for number in CALLERS)


def tries_of(served: Endpoint) -> int:
    """Give the most replicas that one request was tried at, as the edge wrote down."""
    lines = (served.edge.folder / "access.log").read_text().splitlines()
    return max(line.partition('"tries":"')[2].partition('"')[0].count(",") + 1 for line in lines)

"""Wait until every live replica is where it should be: it holds a version, it follows a generation.

Knows heartbeats and the machine's clock; knows nothing of why roles change.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from app.ledger.database import Ledger
from app.registry.replicas import Replica, live_replicas

POLL_SECONDS = 0.1


class Lack(NamedTuple):
    """What a replica lacks."""

    why: str
    for_good: bool = False
    """Whether waiting changes nothing about it."""


Wish = Callable[[Replica], Lack | None]


def holds(version: str, generation: int) -> Wish:
    """Wish that a replica holds a version, and has heard of a generation."""

    def lack(replica: Replica) -> Lack | None:
        if version in replica.problems:
            why = f"replica {replica.replica} cannot load it: {replica.problems[version]}"
            return Lack(why, for_good=True)
        if replica.generation < generation or version not in replica.resident:
            return Lack(f"replica {replica.replica} does not hold it yet")
        return None

    return lack


def follows(generation: int) -> Wish:
    """Wish that a replica follows a generation, or a later one."""

    def lack(replica: Replica) -> Lack | None:
        if replica.generation < generation:
            return Lack(f"replica {replica.replica} still follows generation {replica.generation}")
        return None

    return lack


def await_replicas(
    ledger: Ledger,
    model: str,
    wish: Wish,
    patience_seconds: float,
    wall: Callable[[], float],
    between: Callable[[], None] = lambda: None,
) -> list[str]:
    """Wait until no live replica lacks anything; returns what some still lack when time is up.

    `wall` is the machine's time in seconds since 1970, by which replicas live. `between` is called
    before each look, and may raise.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        between()
        found = map(wish, live_replicas(ledger, model, wall()))
        lacks = [lack for lack in found if lack is not None]
        if not lacks or any(lack.for_good for lack in lacks) or time.monotonic() > deadline:
            return [lack.why for lack in lacks]
        time.sleep(POLL_SECONDS)

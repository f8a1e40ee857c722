"""Send requests at a constant rate whatever becomes of earlier ones, and count what came back."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx


@dataclass
class Outcome:
    """What became of the requests, each sent once: a client that tries again would hide faults."""

    statuses: "Counter[int | str]" = field(default_factory=Counter)
    """By status, or by the name of what was raised instead."""
    failed: list[str] = field(default_factory=list)
    """What was not 200, in words, with the second at which it was sent."""
    seconds: list[float] = field(default_factory=list)
    """From when a request was due to its answer, in no order: of those answered with 200."""
    versions: "Counter[str]" = field(default_factory=Counter)
    """Who answered."""

    def share_within(self, share: float) -> float:
        """Give the time, in seconds, within which this share was answered."""
        return sorted(self.seconds)[int(share * (len(self.seconds) - 1))]

    def __str__(self) -> str:
        quick, slow = self.share_within(0.5), self.share_within(0.99)
        return (
            f"{dict(self.statuses)}; p50 {1e3 * quick:.1f} ms, p99 {1e3 * slow:.1f} ms, "
            f"longest {max(self.seconds):.2f} s"
        )


async def send_steadily(
    client: httpx.AsyncClient, path: str, bodies: Sequence[bytes], rate: float
) -> Outcome:
    """Post each body once, `rate` a second, not waiting for answers before the next is sent."""
    outcome, began = Outcome(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number, body in enumerate(bodies):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(_send(client, path, body, due, began, outcome))
    return outcome


async def _send(
    client: httpx.AsyncClient,
    path: str,
    body: bytes,
    due: float,
    began: float,
    outcome: Outcome,
) -> None:
    try:
        answer = await client.post(path, content=body)
    except httpx.HTTPError as error:
        outcome.statuses[type(error).__name__] += 1
        outcome.failed.append(f"{due - began:.1f} s: {error!r}")
        return
    outcome.statuses[answer.status_code] += 1
    if answer.status_code == 200:
        outcome.seconds.append(time.monotonic() - due)
        outcome.versions[answer.json()["version"]] += 1
    else:
        told = f"{answer.status_code} {answer.text[:300]} {dict(answer.headers)}"
        outcome.failed.append(f"{due - began:.1f} s: {told}")

"""Look things up beside all other work, where waiting for a part that hangs costs nobody else.

Knows threads and the event loop; knows nothing of what is looked up.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.serving.desk import Places
from app.serving.messages import Refused

Outcome = TypeVar("Outcome")
MOST_WAITING = 8
SECONDS = 10.0


class Aside:
    """Calls functions that may hang, two at a time, a few waiting, each for bounded time."""

    def __init__(self, what: str, seconds: float = SECONDS) -> None:
        """Take what is looked up, for whoever is refused, and how long it is waited for."""
        self._what, self._seconds = what, seconds
        self._places = Places(MOST_WAITING, what)
        self._workers = ThreadPoolExecutor(2, thread_name_prefix=what)

    async def work(self, function: Callable[[], Outcome]) -> Outcome:
        """Give what a function gives. Raises Refused with 503: too many wait, or it hangs."""
        loop = asyncio.get_running_loop()
        with self._places.take():
            # What hangs keeps its thread; what waits behind it is taken back.
            try:
                async with asyncio.timeout(self._seconds):
                    return await loop.run_in_executor(self._workers, function)
            except TimeoutError:
                got = f"no answer in {self._seconds:g} s"
                raise Refused(503, self._what, got, "try again later") from None

"""A thread that works in rounds until it is stopped, and makes way for others while it works.

Knows threads; knows nothing of the work. A round deals with its own errors and says what comes
next: the pause before the next round, or the end.
"""

import threading
import time
from collections.abc import Callable

WORK_SECONDS = 0.0003
REST_SECONDS = 0.0005


class Pace:
    """Rests for a moment, where work has lasted for one: to be called between steps of long work.

    A thread that computes gives up the interpreter's lock to one that waits for it only after five
    milliseconds, and one that answers requests needs it anew after each call of the system.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        """Take a clock in seconds that is never put back."""
        self._steady = steady
        self._since = steady()

    def __call__(self) -> None:
        """Rest if it is time."""
        if self._steady() - self._since >= WORK_SECONDS:
            time.sleep(REST_SECONDS)
            self._since = self._steady()


def no_rest() -> None:
    """Go on: nobody waits."""


class Rounds:
    """Calls `work` again and again in a daemon thread.

    `work` returns the seconds to pause, or None to end the thread. Stopping ends a pause at once
    and waits for the round under way.
    """

    def __init__(self, name: str, work: Callable[[], float | None], first_pause: float) -> None:
        self._work = work
        self._pause: float | None = first_pause
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work in the background."""
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """Begin no further round, and wait for the one under way for so many seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stopping(self) -> bool:
        """Tell a long round that it should end early."""
        return self._stopping.is_set()

    def _run(self) -> None:
        while self._pause is not None and not self._stopping.wait(self._pause):
            self._pause = self._work()

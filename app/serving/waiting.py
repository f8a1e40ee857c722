"""Say how long one more would wait: by how many are before it, and how fast they were answered.

A number of requests is a poor bound: sixty-four of half a millisecond are gone before anybody
notices, sixty-four of fifty keep the last waiting for three seconds. Pure: knows times and counts;
knows nothing of clocks, requests, or of who is turned away.
"""

import statistics
from collections import deque

# Pace is judged over so many busy seconds at a time, by the median of so many: a pause of the whole
# process is in one of them, and turns nobody away; a change is seen after three.
WINDOW_SECONDS = 0.1
NUM_WINDOWS = 5


class Line:
    """Who is under way, and the busy seconds that each of the last took. One event loop calls it.

    Those who are worked on together, in batches or by several threads, share the seconds: what is
    counted is how fast the line moves, not how long one of them is in it.
    """

    def __init__(self) -> None:
        """Begin empty, with a pace that nobody waits for."""
        self.num_under_way = 0
        self._since = 0.0
        self._busy, self._answered = 0.0, 0
        self._windows = deque([0.0] * NUM_WINDOWS, maxlen=NUM_WINDOWS)
        self._each = 0.0

    @property
    def wait(self) -> float:
        """Seconds until all who are under way are answered; 0 before a pace is known.

        >>> line = Line()
        >>> for number in range(6):
        ...     line.enter(2.0 * number)
        ...     line.leave(2.0 * number + 0.25)
        >>> line.enter(12.0), line.enter(12.0), line.wait
        (None, None, 0.5)
        """
        return self.num_under_way * self._each

    def enter(self, now: float) -> None:
        """Count one in, at a time in seconds of any steady clock."""
        if not self.num_under_way:
            self._since = now
        self.num_under_way += 1

    def leave(self, now: float) -> None:
        """Count one out."""
        self.num_under_way -= 1
        self._busy += now - self._since
        self._since = now
        self._answered += 1
        if self._busy < WINDOW_SECONDS:
            return
        self._windows.append(self._busy / self._answered)
        self._busy, self._answered = 0.0, 0
        self._each = statistics.median(self._windows)

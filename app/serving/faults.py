"""Count where a version failed over live rows while another one answered them in its place.

Noted by whoever answers, in no more time than a lock takes; told by whoever has time, at most once
a minute. Knows digests and errors; knows nothing of bundles or rows. Time is a parameter, in
seconds of any steady clock.
"""

import logging
import threading
import traceback
from collections.abc import Collection
from dataclasses import dataclass

logger = logging.getLogger(__name__)
TELL_SECONDS = 60.0


@dataclass
class _Fault:
    kind: str
    num_rows: int = 0
    example: str = ""
    tell_at: float | None = None


class Faults:
    """The faults of versions that are resident. Safe to use from several threads."""

    def __init__(self) -> None:
        """Begin without faults."""
        self._faults: dict[str, _Fault] = {}
        self._lock = threading.Lock()

    def note(self, digest: str, num_rows: int, error: Exception) -> None:
        """Note that a version had no usable answer for so many rows."""
        kind = type(error).__name__
        with self._lock:
            fault = self._faults.setdefault(digest, _Fault(kind))
            fault.num_rows += num_rows
            if not fault.example:
                # As text: an error that is kept would keep the rows of its frames.
                fault.example = "".join(traceback.format_exception(error))

    def tell(self, steady_seconds: float) -> None:
        """Log what was noted since it was last logged; of each version once a minute at most."""
        for digest, num_rows, example in self._due(steady_seconds):
            logger.error(
                "version %s had no usable answer for %d rows, another gave it; first:\n%s",
                digest,
                num_rows,
                example,
            )

    def keep(self, digests: Collection[str]) -> None:
        """Forget versions that are not among these."""
        with self._lock:
            self._faults = {d: fault for d, fault in self._faults.items() if d in digests}

    @property
    def problems(self) -> dict[str, str]:
        """Versions that failed, with the kind of the first error: its text may quote a row."""
        with self._lock:
            return {
                digest: f"no usable answer for live rows: {fault.kind}, see the log"
                for digest, fault in self._faults.items()
            }

    def _due(self, steady_seconds: float) -> list[tuple[str, int, str]]:
        due = []
        with self._lock:
            for digest, fault in self._faults.items():
                if not fault.num_rows or steady_seconds < (fault.tell_at or steady_seconds):
                    continue
                due.append((digest, fault.num_rows, fault.example))
                fault.num_rows, fault.example = 0, ""
                fault.tell_at = steady_seconds + TELL_SECONDS
        return due

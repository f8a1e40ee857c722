"""The workers of a run, as one of them sees the others.

Knows numbers; knows nothing of how they travel.
"""

from typing import Protocol


class Peers(Protocol):
    """The other workers of a run."""

    rank: int
    size: int

    def mean(self, value: float) -> float:
        """Give the same mean to every worker."""

    def smallest(self, value: int) -> int:
        """Give the same minimum to every worker."""


class Alone:
    """A run of one worker."""

    rank, size = 0, 1

    def mean(self, value: float) -> float:
        """Give the value back."""
        return value

    def smallest(self, value: int) -> int:
        """Give the value back."""
        return value

"""Name what a caller may do, and how much: roles and limits.

Knows words, bounds and units; knows nothing of keys, tokens, requests, or of who enforces them.
"""

import math
from typing import Literal, Self, get_args

from pydantic import Field

from app.contracts.columns import Frozen

Role = Literal["predict", "label", "explain", "train", "promote", "audit"]
ROLES: tuple[Role, ...] = get_args(Role)


class Limits(Frozen):
    """How much one caller may ask of a model, all replicas together; what is None has no limit."""

    # Absent from the file of keys where there is none: such a file is the same bytes as ever.
    requests_per_second: float | None = Field(
        None,
        ge=0.001,
        le=1e6,
        exclude_if=lambda limit: limit is None,
        description="Requests per second, of any kind, in the long run.",
    )
    burst: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        exclude_if=lambda limit: limit is None,
        description="Requests at once after a pause. Default: a second's worth, at least 1.",
    )
    rows_per_day: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda limit: limit is None,
        description="Rows to predict or explain, a day in UTC.",
    )

    def over(self, default: Self) -> Self:
        """Give these limits, and a default's where these say nothing.

        A rate of one's own comes with a burst of one's own.

        >>> Limits(rows_per_day=9).over(Limits(requests_per_second=2.5, rows_per_day=5))
        Limits(requests_per_second=2.5, burst=None, rows_per_day=9)
        """
        mine = self.requests_per_second is not None
        rate = self.requests_per_second if mine else default.requests_per_second
        burst = self.burst if self.burst is not None or mine else default.burst
        rows = default.rows_per_day if self.rows_per_day is None else self.rows_per_day
        return type(self)(requests_per_second=rate, burst=burst, rows_per_day=rows)

    @property
    def most_at_once(self) -> int:
        """How many requests may come at once."""
        return self.burst or max(1, math.ceil(self.requests_per_second or 1))

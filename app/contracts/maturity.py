"""The frozen facts about how long outcomes take and how complete a window of them is.

Knows numbers and their units; knows nothing of how they were estimated.
"""

from typing import Literal

from pydantic import Field

from app.contracts.rows import Frozen

MaturityMode = Literal["fixed", "learned"]


class Estimate(Frozen):
    """A figure with its interval; None where what was seen says nothing."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class Maturity(Frozen):
    """How old predictions must be to count, what that was taken from, and what it promises."""

    mode: MaturityMode = Field(description="Where the age came from that was used.")
    days: float = Field(ge=0, description="Predictions younger than this were left to mature.")
    target: float = Field(description="Share of outcomes that a mature cohort should have.")
    learned_days: Estimate = Field(
        description="Age at which the learned delays reach the target; absent if they were not "
        "seen to."
    )
    expected_coverage: Estimate = Field(
        description="Share of outcomes that predictions just old enough should have."
    )
    num_rows: int = Field(ge=0, description="Predicted rows that the delays were learned from.")
    num_closed: int = Field(ge=0, description="Those whose outcome, or void, has come.")
    reason: str = ""

"""Which share of the traffic is answered how while two versions compete.

Knows shares and times; knows nothing of rows, hashes or versions.
"""

from datetime import datetime
from typing import Self

from pydantic import AwareDatetime, Field, model_validator

from app.contracts.rows import Frozen

# Arms whose rows the champion answered whatever a coin said: those of who is the challenger's and
# those of exploration are somebody else's, or anybody's.
CHAMPION_ARMS = ("champion", "holdout", "fallback")


class Ramp(Frozen):
    """The way of the challenger's share to where it is going: a straight line in time."""

    from_share: float = Field(0.0, ge=0, le=1, description="Of entities, when it begins.")
    began_at: AwareDatetime
    seconds: float = Field(gt=0)


class Shares(Frozen):
    """Who is answered by the challenger, who never is, and what is left to chance.

    The challenger's share and the hold-out are of entities, which stay where they are; exploration
    is of single requests of all entities that are not held out.
    """

    challenger: float = Field(0.0, ge=0, le=1, description="Of entities; at the end of a ramp.")
    ramp: Ramp | None = None
    holdout: float = Field(
        0.0, ge=0, le=1, description="Of entities: the control group, always the champion's."
    )
    exploration: float = Field(
        0.0, ge=0, le=1, description="Of requests: champion or challenger, with equal chance."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        most = max(self.challenger, self.ramp.from_share if self.ramp else 0.0)
        if most + self.holdout > 1:
            raise ValueError(
                f"the challenger's share of up to {most:g} and the hold-out of {self.holdout:g} "
                f"are {most + self.holdout:g} of the entities together; lower one of them to have "
                "at most 1"
            )
        return self

    def challenger_at(self, at: datetime) -> float:
        """Give the challenger's share at a time: it moves one way, and then stays.

        >>> from datetime import UTC, timedelta
        >>> noon = datetime(2013, 4, 1, 12, tzinfo=UTC)
        >>> shares = Shares(challenger=0.5, ramp=Ramp(began_at=noon, seconds=600))
        >>> [shares.challenger_at(noon + timedelta(minutes=m)) for m in (-1, 0, 5, 10, 99)]
        [0.0, 0.0, 0.25, 0.5, 0.5]
        """
        if self.ramp is None:
            return self.challenger
        gone = (at - self.ramp.began_at).total_seconds() / self.ramp.seconds
        if gone >= 1:
            return self.challenger
        begin = self.ramp.from_share
        return begin + (self.challenger - begin) * max(gone, 0.0)

    def told(self, at: datetime) -> str:
        """Say for people who is answered how at a time.

        >>> noon = datetime.fromisoformat("2013-04-01T12:00:00Z")
        >>> Shares(challenger=0.2, holdout=0.1).told(noon)
        'challenger 20.0% of entities, hold-out 10.0%, exploration 0.0% of requests'
        """
        now = self.challenger_at(at)
        goal = "" if now == self.challenger else f" (on its way to {self.challenger:.1%})"
        return (
            f"challenger {now:.1%} of entities{goal}, hold-out {self.holdout:.1%}, "
            f"exploration {self.exploration:.1%} of requests"
        )


ONLY_CHAMPION = Shares()

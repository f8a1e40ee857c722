"""Assign rows to arms: who answers is a hash of who asks, so it needs no memory and stays.

Knows hashes, shares and times; knows nothing of bundles, rows or where shares come from.

Each entity has one place in 0..1, drawn by a hash that is keyed with the model and the experiment.
The challenger has the places from 0 up to its share, the hold-out those from 1 down, the champion
what is between. As the share grows, entities only ever move from the champion to the challenger,
and the hold-out never moves. A new challenger is a new experiment and draws anew.

Exploration is drawn by the request's key in place of the entity, from hashes of its own: with the
share's chance a row that is not held out is answered by champion or challenger, as a coin falls.

The propensity is the chance, over the draws, that a row asked at that moment has this arm *and* is
answered by this part. Rows of an arm, each weighed by one over its propensity, stand for all rows;
those of several arms are to be evaluated by themselves, or weighed together by whoever knows why.
"""

import hashlib
from datetime import datetime
from typing import Literal, NamedTuple

from app.contracts.shares import Shares

Part = Literal["champion", "challenger"]
Name = Literal["champion", "challenger", "holdout", "exploration", "fallback"]
_FIRST_53_BITS = 11
_STEPS = float(1 << 53)


class Arm(NamedTuple):
    """How a row came to be answered: the arm, which version answers it, and how likely it was."""

    name: Name
    part: Part
    propensity: float

    @property
    def fallen_back(self) -> "Arm":
        """The same draw, where the champion had to answer in the challenger's place.

        An arm of its own with the chance of having been drawn for the challenger: the rows can be
        counted as those of who should have answered, or left out, and spoil no other arm.
        """
        return Arm("fallback", "champion", self.propensity)


class Stamp(NamedTuple):
    """What the record of a prediction says of who made it, in the order of its columns."""

    version: str
    generation: int
    arm: str
    propensity: float


class Arms:
    """The arms of one experiment at one moment."""

    def __init__(self, salt: bytes, shares: Shares, at: datetime) -> None:
        """`salt` of up to 64 bytes names the experiment; see salt_of."""
        self._salt = salt
        self._share = shares.challenger_at(at)
        self._others = 1.0 - shares.holdout
        self._explored = shares.exploration
        sticky, explored = 1.0 - shares.exploration, self._others * shares.exploration / 2
        self._challenger = Arm("challenger", "challenger", self._share * sticky)
        self._champion = Arm("champion", "champion", max(self._others - self._share, 0.0) * sticky)
        self._holdout = Arm("holdout", "champion", shares.holdout)
        self._coin = (
            Arm("exploration", "champion", explored),
            Arm("exploration", "challenger", explored),
        )

    def of(self, entity: str, key: str) -> Arm:
        """Give the arm of a row, by who it is about and by the key of its request."""
        place = self._draw(entity, b"entity")
        if place >= self._others:
            return self._holdout
        if self._explored and self._draw(key, b"exploration") < self._explored:
            return self._coin[self._draw(key, b"coin") < 0.5]
        return self._challenger if place < self._share else self._champion

    @property
    def all(self) -> tuple[Arm, ...]:
        """Every arm that a row may have; their propensities sum to 1."""
        return (self._champion, self._challenger, self._holdout, *self._coin)

    def _draw(self, text: str, what: bytes) -> float:
        """Draw from 0..1, 1 excluded: the first 53 bits of a keyed hash, as a float holds them."""
        digest = hashlib.blake2b(text.encode(), digest_size=8, key=self._salt, person=what).digest()
        return (int.from_bytes(digest, "big") >> _FIRST_53_BITS) / _STEPS


def salt_of(model: str, challenger: str) -> bytes:
    """Make the salt of an experiment, which is its challenger: another one draws anew.

    >>> salt_of("flights", "a") == salt_of("flights", "b")
    False
    """
    return hashlib.blake2b(f"{model}\0{challenger}".encode(), digest_size=32).digest()

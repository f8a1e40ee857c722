"""Say what facts come to in the online store: weights at moments, and values that are present.

Knows windows and facts; knows nothing of SQLite. The weights of all moments up to t add up to the
value as of t; taking facts back is adding the same with the opposite sign.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from app.contracts.rows import Contract
from app.data.facts import REVISIONS, Ints
from app.data.presence import Presence, Span
from app.data.running import NUM_WEIGHTS
from app.data.windows import items_of, longest, outcome_steps, weights_of


class Known(NamedTuple):
    """Facts, each id and time once, and the revisions of their outcomes."""

    facts: pa.Table
    revisions: pa.Table


class Entries:
    """Weights [5, n] at moments [n] of groups, gathered piece by piece."""

    def __init__(self, contract: Contract) -> None:
        """Gather for the windows of a contract."""
        self._contract = contract
        keys = slots_of(contract)
        self._slots = [keys.index(window.key) for window in contract.windows]
        self._numbers: dict[tuple[int, str, int], int] = {}
        self._of_group: list[Ints] = []
        self._moments: list[Ints] = []
        self._weights: list[Ints] = []
        self._changed: list[tuple[int, int, int]] = []

    def count(self, known: Known, sign: int) -> None:
        """Add, or with -1 take back, all that facts count for, but for distinct values."""
        steps = outcome_steps(*known, longest(self._contract.windows))
        for feature, window in enumerate(self._contract.windows):
            if window.aggregate in ("distinct", "time_since_last"):
                continue
            items = items_of(window, known.facts, steps)
            given = weights_of(window, items.amount)
            weights = np.zeros((NUM_WEIGHTS, len(items.event)), np.int64)
            weights[: len(given)] = sign * given
            entities = known.facts[window.key].combine_chunks().take(pa.array(items.event))
            group = self._groups(feature, entities)
            self._append(group, items.start, weights)
            self._append(group, items.end, -weights)

    def change(self, group: Presence, changes: list[tuple[int, int]]) -> None:
        """Add (moment, weight) by which a count of distinct values changes."""
        name = (self._slots[group.feature], group.entity, group.feature)
        number = self._numbers.setdefault(name, len(self._numbers))
        self._changed += [(number, moment, weight) for moment, weight in changes]

    @property
    def groups(self) -> list[tuple[int, str, int]]:
        """The (slot, entity, feature) of each group, by number."""
        return list(self._numbers)

    @property
    def content(self) -> tuple[Ints, Ints, Ints]:
        """Numbers of groups [n], moments [n] and weights [5, n]."""
        group, moments, counts = np.array(self._changed, np.int64).reshape(-1, 3).T
        weights = np.zeros((NUM_WEIGHTS, len(group)), np.int64)
        weights[0] = counts
        return (
            np.concatenate([*self._of_group, group]),
            np.concatenate([*self._moments, moments]),
            np.concatenate([*self._weights, weights], axis=1),
        )

    def _groups(self, feature: int, entities: pa.Array) -> Ints:
        encoded = entities.dictionary_encode()
        names = [(self._slots[feature], name, feature) for name in encoded.dictionary.to_pylist()]
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in names]
        chosen: Ints = np.array(numbers, np.int64)[encoded.indices.to_numpy()]
        return chosen

    def _append(self, group: Ints, moments: Ints, weights: Ints) -> None:
        self._of_group.append(group)
        self._moments.append(moments)
        self._weights.append(weights)


def slots_of(contract: Contract) -> list[str]:
    """List the entity columns of the windows; the place of one is its slot."""
    return sorted({window.key for window in contract.windows})


def presences(contract: Contract, facts: pa.Table) -> set[tuple[Presence, Span]]:
    """Tell which values are present when, for windows that count distinct ones."""
    found = set()
    nothing = outcome_steps(facts, REVISIONS.empty_table(), 0)
    for feature, window in enumerate(contract.windows):
        if window.aggregate != "distinct":
            continue
        items = items_of(window, facts, nothing)
        place = pa.array(items.event)
        entities, values = (facts[name].take(place).to_pylist() for name in (window.key, window.of))
        spans = zip(items.start.tolist(), items.end.tolist(), strict=True)
        groups = (Presence(feature, *pair) for pair in zip(entities, values, strict=True))
        found |= set(zip(groups, spans, strict=True))
    return found

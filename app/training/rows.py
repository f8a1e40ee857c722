"""Rows as a network learns from them: encoded, with their outcomes and, to rank, their lists.

Knows arrays; knows nothing of tables or of how a network is trained.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.data.features import Encoded


@dataclass(frozen=True)
class Rows:
    """Encoded rows with their outcomes."""

    encoded: Encoded
    labels: NDArray[Any]
    """[B]: 0 or 1, places among classes, values, or relevances, as the task has them."""
    groups: NDArray[np.int64] | None = None
    """[B]: which list a row stands in, where the task is to rank."""

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, number: int, of: int) -> "Rows":
        """Take every `of`-th row from `number` on."""
        chosen = np.arange(number, len(self), of)
        if self.groups is not None:
            # A list stays in one piece.
            chosen = np.flatnonzero(self.groups % of == number)
        return self.take(chosen)

    def take(self, chosen: NDArray[np.int64]) -> "Rows":
        """Take rows by their places."""
        encoded = Encoded(self.encoded.numbers[chosen], self.encoded.categories[chosen])
        groups = None if self.groups is None else self.groups[chosen]
        return Rows(encoded, self.labels[chosen], groups)

    def and_(self, other: "Rows") -> "Rows":
        """Put rows after these."""
        mine, theirs = self.encoded, other.encoded
        numbers = np.concatenate([mine.numbers, theirs.numbers])
        categories = np.concatenate([mine.categories, theirs.categories])
        labels = np.concatenate([self.labels, other.labels])
        if self.groups is None or other.groups is None:
            return Rows(Encoded(numbers, categories), labels)
        groups = np.concatenate([self.groups, other.groups])
        return Rows(Encoded(numbers, categories), labels, groups)

    def draw_order(self) -> Tensor:
        """Draw the order of an epoch: rows at random, or lists at random, each in one piece."""
        if self.groups is None:
            return torch.randperm(len(self))
        _, list_N = np.unique(self.groups, return_inverse=True)
        drawn = torch.randperm(int(list_N.max()) + 1)
        return torch.argsort(drawn[torch.from_numpy(list_N)], stable=True)

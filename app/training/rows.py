"""Rows as a network learns from them: encoded, with their outcomes and, to rank, their lists.

Knows arrays; knows nothing of tables or of how a network is trained.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.data.features import Encoded

Block = dict[str, NDArray[Any]]


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

    def draw_order(self, device: torch.device | None = None) -> Tensor:
        """Draw the order of an epoch: rows at random, or lists at random, each in one piece.

        Of rows it is drawn by the device's own generator: a card draws 20 million in milliseconds,
        a processor in a second.
        """
        if self.groups is None:
            return torch.randperm(len(self), device=device)
        _, list_N = np.unique(self.groups, return_inverse=True)
        drawn = torch.randperm(int(list_N.max()) + 1)
        return torch.argsort(drawn[torch.from_numpy(list_N)], stable=True)


def shard(blocks: list[Block], rank: int, size: int, stop: Rows) -> tuple[Rows, Rows]:
    """Take one worker's rows out of encoded blocks, in the order of their places.

    Gives the rows to search on and, for a refit, the same with this worker's part of the stop rows
    behind; both are views of one piece of memory, the only copy that is made. Which rows a worker
    gets depends on their places (of a ranking: their lists) and the number of workers alone, not on
    how blocks were cut or came. A block holds `numbers`, `categories`, `label`, `place` and, of a
    ranking, `list`; the list of blocks is emptied on the way.
    """
    own = [np.flatnonzero(block.get("list", block["place"]) % size == rank) for block in blocks]
    places = np.concatenate([block["place"][rows] for block, rows in zip(blocks, own, strict=True)])
    target = np.empty(len(places), np.int64)
    target[np.argsort(places)] = np.arange(len(places))
    behind = _named(stop.part(rank, size))
    both = {
        name: np.empty((len(places) + len(rows), *rows.shape[1:]), blocks[0][name].dtype)
        for name, rows in behind.items()
    }
    waiting, first = deque(blocks), 0
    blocks.clear()
    for rows in own:
        block = waiting.popleft()
        for name, column in both.items():
            column[target[first : first + len(rows)]] = block[name][rows]
        first += len(rows)
    for name, rows in behind.items():
        both[name][first:] = rows
    return _rows({name: column[:first] for name, column in both.items()}), _rows(both)


def whole(blocks: list[Block]) -> Rows:
    """Put all rows of encoded blocks into one piece, in the order of their places."""
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    return _rows(columns).take(np.argsort(columns["place"]))


def _rows(columns: Block) -> Rows:
    encoded = Encoded(columns["numbers"], columns["categories"])
    return Rows(encoded, columns["label"], columns.get("list"))


def _named(rows: Rows) -> Block:
    columns: Block = {
        "numbers": rows.encoded.numbers,
        "categories": rows.encoded.categories,
        "label": rows.labels,
    }
    return columns if rows.groups is None else {**columns, "list": rows.groups}

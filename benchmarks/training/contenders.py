"""Contenders that train the same network on the same batches by the same optimizer, and rounds.

A round of a contender is one pass over the rows. Ours also averages its weights and counts its
loss, which the others do not; all else is equal, to the bit, and a test holds them to it.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset

from app.model.networks import Network
from app.sections import TrainingConfig
from app.training.fitting import Stage, Task, epoch_seed, learning_rate
from app.training.peers import Alone, Peers
from app.training.rows import Rows
from app.training.state import FitState

Tensors = tuple[Tensor, Tensor, Tensor]


class Contender(Protocol):
    """Something that trains."""

    def train(self, number: int) -> int:
        """Pass over the rows for the number-th time; give how many rows were learned from."""


class Ours:
    """The product's own stage: batches, rate, step, weight average, loss."""

    def __init__(
        self,
        network: Network,
        rows: Rows,
        config: TrainingConfig,
        module: nn.Module | None = None,
        peers: Peers | None = None,
    ) -> None:
        """Begin a search."""
        self.network = network
        task = Task(network, rows, rows, config, module or network, peers or Alone())
        self._stage = Stage(task, FitState(), [])

    def train(self, number: int) -> int:
        """Run an epoch."""
        return self._stage.advance(number).num_rows


class Plain:
    """A loop as one writes it by hand: over tensors in memory, or over what gives batches."""

    def __init__(
        self,
        network: Network,
        tensors: Tensors,
        config: TrainingConfig,
        forward: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        """Make the optimizer; `forward` is the network's pass where it is not the plain one."""
        self.network, self._tensors, self._config = network, tensors, config
        self._forward = forward or network
        self._optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._step = 0

    def train(self, number: int) -> int:
        """Pass over the rows."""
        num_rows = 0
        self.network.train()
        for numbers, categories, targets in self.batches(number):
            self._learn(numbers, categories, targets)
            num_rows += len(targets)
        return num_rows

    def batches(self, number: int) -> Iterable[Tensors]:
        """Index the tensors by a random order."""
        numbers, categories, targets = self._tensors
        order = self.order(number)
        for first in range(0, len(order), self._config.batch_rows):
            rows = order[first : first + self._config.batch_rows]
            yield numbers[rows], categories[rows], targets[rows]

    def order(self, number: int) -> Tensor:
        """Draw the order that ours draws."""
        torch.manual_seed(epoch_seed(self._config.seed, number, 0))
        targets = self._tensors[2]
        return torch.randperm(len(targets), device=targets.device)

    def _learn(self, numbers: Tensor, categories: Tensor, targets: Tensor) -> None:
        rate = learning_rate(self._config, self._step, 1)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._step += 1
        logits = self._forward(numbers, categories)
        loss = self.network.task.loss(logits, targets, None)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()


class _WholeBatches(Dataset[Tensors]):
    """Gives a batch for a list of places: far quicker than to collate rows one by one."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    def __getitem__(self, places: list[int]) -> Tensors:
        chosen = torch.tensor(places)
        numbers, categories, targets = self._tensors
        return numbers[chosen], categories[chosen], targets[chosen]


class Loader(Plain):
    """The same loop behind torch's DataLoader, which asks for whole batches, in this process.

    Its worker processes would share the cores with the loop and copy every batch.
    """

    def batches(self, number: int) -> Iterable[Tensors]:
        """Let the DataLoader give the batches of the order."""
        sampler = BatchSampler(self.order(number).tolist(), self._config.batch_rows, False)
        loader: DataLoader[Tensors] = DataLoader(
            _WholeBatches(self._tensors),
            sampler=sampler,
            batch_size=None,
            generator=torch.Generator(),  # Else it draws from the one that dropout draws from.
        )
        return loader


def tensors_of(rows: Rows, network: Network, device: torch.device | str = "cpu") -> Tensors:
    """Give the tensors of rows."""
    targets = network.task.targets(rows.labels)
    parts = (rows.encoded.numbers, rows.encoded.categories, targets)
    numbers, categories, labels = (torch.from_numpy(part).to(device) for part in parts)
    return numbers, categories, labels


@dataclass(frozen=True)
class Lap:
    """What one round of a contender cost, a row."""

    wall_us: float
    cpu_us: float


def interleave(contenders: dict[str, Contender], rounds: int) -> dict[str, list[Lap]]:
    """Run rounds, one warming round apart; another contender begins each round."""
    laps: dict[str, list[Lap]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds + 1):
        for name in rotated(names, number):
            wall, cpu = time.perf_counter(), time.process_time()
            num_rows = contenders[name].train(number + 1)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            laps[name].append(Lap(wall / num_rows * 1e6, cpu / num_rows * 1e6))
    return {name: each[1:] for name, each in laps.items()}


def rotated(names: Sequence[str], by: int) -> Iterator[str]:
    """Give the names, beginning with another one each time."""
    yield from (*names[by % len(names) :], *names[: by % len(names)])


def speed(laps: dict[str, list[Lap]], ours: str, other: str) -> tuple[float, float]:
    """Give the median over rounds of our rows a second by the other's: by wall and by CPU time."""
    pairs = list(zip(laps[ours], laps[other], strict=True))
    wall = statistics.median(them.wall_us / us.wall_us for us, them in pairs)
    cpu = statistics.median(them.cpu_us / us.cpu_us for us, them in pairs)
    return round(wall, 3), round(cpu, 3)


def medians(laps: dict[str, list[Lap]]) -> dict[str, dict[str, float]]:
    """Give each contender's median rows a second of wall and of CPU time."""
    return {
        name: {
            "rows_per_s": round(1e6 / statistics.median(lap.wall_us for lap in each)),
            "rows_per_cpu_s": round(1e6 / statistics.median(lap.cpu_us for lap in each)),
        }
        for name, each in laps.items()
    }

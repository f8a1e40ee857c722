"""Notice within an epoch that the loss is no number any more, and say where it began.

Knows losses, batches and how to ask peers; knows nothing of networks, Ray or the clock. Reading a
loss makes the processor wait for its device, so that losses stay there and are read a window at a
time; the window remembers each, so that the first broken batch is named all the same.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from app.training.peers import Peers

CHECK_EVERY = 32
"""Steps between two looks."""


class TrainingDiverged(ValueError):
    """The loss stopped being a number: a setting or the rows must change before it is tried again.

    All workers of a run raise it together, at the same step.
    """


@dataclass(frozen=True)
class Broken:
    """The first loss of a run that is no number."""

    step: int
    """From 0, within the epoch."""
    worker: int
    loss: float
    """Of this worker at that step, which may still be a number where another's was not."""

    def explain(self, where: str, rate: float, batch: tuple[Tensor, Tensor] | None) -> str:
        """Say where training diverged.

        `batch` are the encoded numbers [B, F] and the places [B] of that batch's rows among those
        of the worker, known to that worker alone.
        """
        inputs = describe_inputs(*batch) if batch else "that worker's log tells its inputs"
        what = f"the loss is {self.loss}" if batch else "the loss is no number"
        return (
            f"training diverged: {what} in {where} of worker {self.worker}, at a learning rate of "
            f"{rate:.3g}; {inputs}"
        )


class LossWatch:
    """The losses of one epoch's latest steps, looked at now and then, by all workers together."""

    def __init__(self, num_steps: int, device: torch.device, peers: Peers) -> None:
        """Watch an epoch of so many steps."""
        self._num_steps, self._peers = num_steps, peers
        self._window = torch.zeros(CHECK_EVERY, device=device)
        self.recent = math.nan
        """Mean loss of all workers over the steps before the last look."""

    def is_due(self, step: int) -> bool:
        """Tell whether the losses are looked at after this step, counted from 0."""
        return (step + 1) % CHECK_EVERY == 0 or step + 1 == self._num_steps

    def saw(self, step: int, loss: Tensor) -> Broken | None:
        """Take in the loss of a step; no wait for the device until a look is due.

        Returns the first loss of the window that is no number, the same one on every worker.
        """
        self._window[step % CHECK_EVERY] = loss.detach()
        if not self.is_due(step):
            return None
        first, peers = step - step % CHECK_EVERY, self._peers
        window = self._window[: step - first + 1].double()
        self.recent = peers.mean(float(window.mean()))
        if math.isfinite(self.recent):
            return None
        broken = (~torch.isfinite(window)).nonzero().flatten().tolist()
        # One number says both step and worker, so that one exchange is enough.
        none = self._num_steps * peers.size
        mine = (first + broken[0]) * peers.size + peers.rank if broken else none
        at, worker = divmod(peers.smallest(mine), peers.size)
        return Broken(at, worker, float(window[at - first]))


def describe_inputs(numbers_BF: Tensor, rows_B: Tensor) -> str:
    """Say what is largest among a batch's encoded numbers, and where.

    >>> describe_inputs(torch.tensor([[0.5, 2.0], [-7.0, 1.0]]), torch.tensor([40, 3]))
    'its largest input is -7 (number 1 of row 3 of the worker)'
    >>> describe_inputs(torch.tensor([[math.nan]]), torch.tensor([8]))
    'its input is nan (number 1 of row 8 of the worker)'
    """
    if not numbers_BF.numel():
        return f"its first row is row {int(rows_B[0])} of the worker"
    broken = (~torch.isfinite(numbers_BF)).flatten()
    size = torch.where(broken, math.inf, numbers_BF.abs().flatten())
    place, number = divmod(int(size.argmax()), numbers_BF.shape[1])
    value = float(numbers_BF[place, number])
    where = f"(number {number + 1} of row {int(rows_B[place])} of the worker)"
    largest = "input" if bool(broken.any()) else "largest input"
    return f"its {largest} is {value:.6g} {where}"


def refuse_broken(stage: str, weights: Mapping[str, Tensor], rate: float) -> None:
    """Raise TrainingDiverged where a stage ended with weights that are no numbers."""
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise TrainingDiverged(
                f"training diverged: the {stage} ended with weights of {name} that are no "
                f"numbers; lower training.learning_rate, got {rate}"
            )

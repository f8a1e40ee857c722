"""Fit a network to encoded rows, epoch by epoch, with early stopping; resumable to the bit.

Knows tensors, the training section and how to speak to peers; knows nothing of Ray, tables or
files' places. It reads no clock. Each epoch draws from a generator seeded by (seed, epoch, rank),
so that a run that was interrupted and resumed ends with the same weights as one that was not.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from app.model.networks import Network
from app.model.outcomes import calibrated_loss
from app.sections import TrainingConfig
from app.training.averaging import WeightAverage
from app.training.divergence import Broken, LossWatch, TrainingDiverged, refuse_broken
from app.training.peers import Alone, Peers
from app.training.progress import Step
from app.training.rows import Rows
from app.training.state import Epoch, FitState, StageName

WARMUP_STEPS = 100


@dataclass(frozen=True)
class Task:
    """One worker's part of a run."""

    network: Network
    train: Rows
    stop: Rows
    config: TrainingConfig
    module: nn.Module
    """The network as its peers see it: wrapped when gradients are shared, else itself."""
    peers: Peers
    stage: StageName = "search"
    on_step: Callable[[Step], None] = lambda step: None


def fit(
    network: Network,
    train: Rows,
    stop: Rows,
    config: TrainingConfig,
    *,
    resume: FitState | None = None,
    on_epoch: Callable[[FitState], None] = lambda state: None,
    on_step: Callable[[Step], None] = lambda step: None,
    module: nn.Module | None = None,
    peers: Peers | None = None,
) -> FitState:
    """Train until early stopping and leave the network with its final weights, to be evaluated.

    The stop loss is the log loss after calibration on the stop rows themselves, as the bundle's
    calibrator will do: a season's different base rate then does not pass for a worse model. With
    `config.refit` the network then starts anew from its first weights and learns from the stop rows
    too, for as many epochs as were best: the latest days are worth more than any others.
    `on_epoch` sees the state after each epoch, `on_step` now and then how far an epoch is. Raises
    TrainingDiverged when a loss is no number, ValueError without rows.
    """
    if not len(train) or not len(stop):
        raise ValueError(
            "training needs rows with known labels, "
            f"got {len(train)} to train and {len(stop)} to stop"
        )
    task = Task(network, train, stop, config, module or network, peers or Alone(), on_step=on_step)
    first = _copy(network.state_dict())
    state = resume or FitState()
    if not state.is_searched(config):
        stage = _Stage(task, state, state.epochs)
        while not state.is_searched(config):
            state = _search(state, stage)
            on_epoch(state)
    if not state.is_finished(config):
        if not state.refit_epochs:
            network.load_state_dict(first)
            state = replace(state, weights={}, average={}, moments={})
        everything = train.and_(stop.part(task.peers.rank, task.peers.size))
        stage = _Stage(replace(task, train=everything, stage="refit"), state, state.refit_epochs)
        while not state.is_finished(config):
            epoch = stage.advance(len(state.refit_epochs) + 1)
            state = replace(stage.seen(state), refit_epochs=(*state.refit_epochs, epoch))
            on_epoch(state)
    refuse_broken(state.stage, state.final, config.learning_rate)
    network.load_state_dict(state.final)
    network.eval()
    return state


class _Stage:
    """A search or a refit under way: the network's optimizer and the average of its weights."""

    def __init__(self, task: Task, state: FitState, epochs: Sequence[Epoch]) -> None:
        """Go on after these epochs of the stage."""
        self.task, config = task, task.config
        self.optimizer = torch.optim.AdamW(
            task.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        if epochs:
            task.network.load_state_dict(state.weights)
            _load_moments(self.optimizer, state.moments)
        num_steps = len(epochs) * _steps_of_an_epoch(task)[1] if epochs else 0
        self.average = WeightAverage(task.network, config.averaging, num_steps, state.average)

    def advance(self, number: int) -> Epoch:
        """Run one epoch."""
        train_loss, num_rows = _train_epoch(self.task, self.optimizer, self.average, number)
        size = self.task.peers.size
        return Epoch(number=number, num_rows=num_rows, train_loss=train_loss, num_workers=size)

    def seen(self, state: FitState) -> FitState:
        """Write down where the network is."""
        return replace(
            state,
            weights=_copy(self.task.network.state_dict()),
            average=self.average.tensors(),
            moments=_moments(self.optimizer),
        )


def _search(state: FitState, stage: _Stage) -> FitState:
    """Run one epoch and judge its averaged weights on the stop rows."""
    task, number = stage.task, len(state.epochs) + 1
    epoch = stage.advance(number)
    with stage.average.in_place():
        stop_loss = task.peers.mean(_stop_loss(task))
    epoch = epoch.model_copy(update={"stop_loss": stop_loss})
    state = replace(stage.seen(state), epochs=(*state.epochs, epoch))
    if not math.isfinite(stop_loss):
        raise TrainingDiverged(
            f"training diverged: the loss on the stop rows is {stop_loss} after epoch {number}; "
            f"lower training.learning_rate, got {task.config.learning_rate}"
        )
    if state.is_best(stop_loss, task.config):
        is_early = number <= task.config.min_epochs
        lowest = stop_loss if is_early else min(stop_loss, state.best_loss)
        return replace(state, best=state.average, best_loss=lowest, best_epoch=number)
    return state


def _train_epoch(
    task: Task, optimizer: torch.optim.Optimizer, average: WeightAverage, number: int
) -> tuple[float, int]:
    """Pass once over this worker's rows; give the mean loss and the rows of all workers."""
    config, peers = task.config, task.peers
    learning, device = task.network.task, task.network.device
    numbers_NF, categories_NC, targets_N, groups_N = _tensors(task, device)
    torch.manual_seed(_epoch_seed(config.seed, number, peers.rank))
    batch_rows, num_steps = _steps_of_an_epoch(task)
    order_N = task.train.draw_order().to(device)
    total = torch.zeros((), device=device)
    num_rows = 0
    watch = LossWatch(num_steps, device, peers)
    task.module.train()
    for step in range(num_steps):
        rows_B = order_N[step * batch_rows : (step + 1) * batch_rows]
        _set_rate(optimizer, config, (number - 1) * num_steps + step, num_steps * config.epochs)
        logits_BKO = task.module(numbers_NF[rows_B], categories_NC[rows_B])
        groups_B = None if groups_N is None else groups_N[rows_B]
        loss = learning.loss(logits_BKO, targets_N[rows_B], groups_B)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        average.update()
        total += loss.detach() * len(rows_B)
        num_rows += len(rows_B)
        if (broken := watch.saw(step, loss)) is not None:
            batch = order_N[broken.step * batch_rows : (broken.step + 1) * batch_rows]
            raise _diverged(task, broken, number, num_steps, numbers_NF[batch], batch)
        if watch.is_due(step):
            rows = num_rows * peers.size
            task.on_step(Step(task.stage, number, step + 1, num_steps, rows, watch.recent))
    task.module.eval()
    return peers.mean(float(total) / num_rows), num_rows * peers.size


def _diverged(
    task: Task, broken: Broken, number: int, num_steps: int, numbers_BF: Tensor, rows_B: Tensor
) -> TrainingDiverged:
    config = task.config
    rate = learning_rate(config, (number - 1) * num_steps + broken.step, num_steps * config.epochs)
    where = f"the {task.stage}, epoch {number}, batch {broken.step + 1} of {num_steps}"
    own = broken.worker == task.peers.rank
    told = broken.explain(where, rate, (numbers_BF, rows_B) if own else None)
    return TrainingDiverged(f"{told}; lower training.learning_rate, got {config.learning_rate}")


def _steps_of_an_epoch(task: Task) -> tuple[int, int]:
    """Give this worker's rows a batch, and the batches an epoch."""
    batch_rows = max(task.config.batch_rows // task.peers.size, 1)
    # Workers step together: the one with the fewest batches decides.
    return batch_rows, task.peers.smallest(-(-len(task.train) // batch_rows))


def _stop_loss(task: Task) -> float:
    stop = task.stop
    predictions = task.network.predict(stop.encoded)
    return calibrated_loss(task.network.task, stop.labels, predictions, stop.groups)


def _tensors(task: Task, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    rows = task.train
    targets = task.network.task.targets(rows.labels)
    numbers, categories, targets_N = (
        torch.from_numpy(part).to(device)
        for part in (rows.encoded.numbers, rows.encoded.categories, targets)
    )
    groups_N = None if rows.groups is None else torch.from_numpy(rows.groups).to(device)
    return numbers, categories, targets_N, groups_N


def learning_rate(config: TrainingConfig, step: int, num_steps: int) -> float:
    """Give the rate of a step: a linear warm-up, then constant or half a cosine down to 0.

    The cosine is that of Loshchilov and Hutter (2017), SGDR, without restarts.
    """
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    if config.schedule == "constant":
        return config.learning_rate * warm
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / num_steps))


def _set_rate(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, step: int, num_steps: int
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step, num_steps)


def _epoch_seed(seed: int, epoch: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten the optimizer's tensors to names."""
    state = optimizer.state_dict()["state"]
    return _copy(
        {f"{i}.{key}": tensor for i, named in state.items() for key, tensor in named.items()}
    )


def _load_moments(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in moments.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})

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
from app.training.batches import open_batches
from app.training.divergence import Broken, LossWatch, TrainingDiverged, refuse_broken
from app.training.optimizer import QuickAdamW
from app.training.peers import Alone, Peers
from app.training.precision import forward_of
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
    everything: Rows | None = None,
) -> FitState:
    """Train until early stopping and leave the network with its final weights, to be evaluated.

    The stop loss is the log loss after calibration on the stop rows themselves, as the bundle's
    calibrator will do: a season's different base rate then does not pass for a worse model. With
    `config.refit` the network then starts anew from its first weights and learns from the stop rows
    too, for as many epochs as were best: the latest days are worth more than any others.
    `everything` is what a refit learns from, where the caller has it in one piece: the rows of
    training with this worker's part of the stop rows behind. `on_epoch` sees the state after each
    epoch, `on_step` now and then how far an epoch is. Raises TrainingDiverged when a loss is no
    number, ValueError without rows.
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
        stage = Stage(task, state, state.epochs)
        while not state.is_searched(config):
            state = _search(state, stage)
            on_epoch(state)
        del stage  # A card has room for one stage's rows.
    if not state.is_finished(config):
        if not state.refit_epochs:
            network.load_state_dict(first)
            state = replace(state, weights={}, average={}, moments={})
        if everything is None:
            everything = train.and_(stop.part(task.peers.rank, task.peers.size))
        stage = Stage(replace(task, train=everything, stage="refit"), state, state.refit_epochs)
        while not state.is_finished(config):
            epoch = stage.advance(len(state.refit_epochs) + 1)
            state = replace(stage.seen(state), refit_epochs=(*state.refit_epochs, epoch))
            on_epoch(state)
    refuse_broken(state.stage, state.final, config.learning_rate)
    network.load_state_dict(state.final)
    network.eval()
    return state


class Stage:
    """A search or a refit under way: rows, the network's optimizer, the average of its weights."""

    def __init__(self, task: Task, state: FitState, epochs: Sequence[Epoch]) -> None:
        """Go on after these epochs of the stage."""
        self.task, config = task, task.config
        learning, device = task.network.task, task.network.device
        self.batches = open_batches(task.train, learning, device, config.resident)
        self.forward = forward_of(task.module, config, device)
        self.optimizer = QuickAdamW(
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
        train_loss, num_rows = _train_epoch(self, number)
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


def _search(state: FitState, stage: Stage) -> FitState:
    """Run one epoch and judge its averaged weights on the stop rows."""
    task, number = stage.task, len(state.epochs) + 1
    epoch = stage.advance(number)
    with stage.average.in_place():
        stop_loss = task.peers.mean(_stop_loss(task))
    if not math.isfinite(stop_loss):
        raise TrainingDiverged(
            f"training diverged: the loss on the stop rows is {stop_loss} after epoch {number}; "
            f"lower training.learning_rate, got {task.config.learning_rate}"
        )
    epoch = epoch.model_copy(update={"stop_loss": stop_loss})
    return stage.seen(state).judged(epoch, task.config)


def _train_epoch(stage: Stage, number: int) -> tuple[float, int]:
    """Pass once over this worker's rows; give the mean loss and the rows of all workers."""
    task, optimizer = stage.task, stage.optimizer
    config, peers, device = task.config, task.peers, task.network.device
    torch.manual_seed(epoch_seed(config.seed, number, peers.rank))
    batch_rows, num_steps = _steps_of_an_epoch(task)
    order_N = task.train.draw_order(device)
    total = torch.zeros((), device=device)
    num_rows = 0
    watch = LossWatch(num_steps, device, peers)
    task.module.train()
    for step, batch in enumerate(stage.batches.epoch(order_N, batch_rows, num_steps)):
        _set_rate(optimizer, config, (number - 1) * num_steps + step, num_steps * config.epochs)
        logits_BKO = stage.forward(batch.numbers_BF, batch.categories_BC)
        loss = task.network.task.loss(logits_BKO, batch.targets_B, batch.groups_B)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        stage.average.update()
        total += loss.detach() * batch.num_rows
        num_rows += batch.num_rows
        if (broken := watch.saw(step, loss)) is not None:
            rows_B = order_N[broken.step * batch_rows : (broken.step + 1) * batch_rows].cpu()
            raise _diverged(task, broken, number, num_steps, rows_B)
        if watch.is_due(step):
            rows = num_rows * peers.size
            task.on_step(Step(task.stage, number, step + 1, num_steps, rows, watch.recent))
    task.module.eval()
    return peers.mean(float(total) / num_rows), num_rows * peers.size


def _diverged(
    task: Task, broken: Broken, number: int, num_steps: int, rows_B: Tensor
) -> TrainingDiverged:
    config = task.config
    numbers_BF = torch.from_numpy(task.train.encoded.numbers[rows_B.numpy()])
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


def epoch_seed(seed: int, epoch: int, rank: int) -> int:
    """Give the seed of what one worker draws in an epoch: its order and its dropout."""
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

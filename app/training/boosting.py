"""Grow gradient-boosted trees, some at a time, with the same early stopping and refit as a network.

An epoch is `trees_per_epoch` more trees on all rows; after each the stop rows judge and the state
can be kept. Knows encoded rows and XGBoost; knows nothing of Ray or tables. With several workers
XGBoost adds up their histograms, within the communicator that the caller has set up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.data.features import InputShape
from app.model.outcomes import calibrated_loss
from app.model.tasks import LearningTask
from app.model.trees import Trees, matrix, predict_margins, read_booster, xgboost
from app.sections import TrainingConfig
from app.training.rows import Rows
from app.training.state import Epoch, FitState

# A booster's JSON among the tensors of a state.
BOOSTER = "booster"
OBJECTIVES = {
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
    "regression": "reg:squarederror",
    "ranking": "rank:ndcg",
}


@dataclass(frozen=True)
class Growth:
    """One worker's part of growing trees."""

    task: LearningTask
    train: Rows
    stop: Rows
    config: TrainingConfig
    num_threads: int = 1
    rank: int = 0
    num_workers: int = 1

    @property
    def parameters(self) -> dict[str, Any]:
        """What XGBoost is told. Draws depend on the round alone, so that a resumed run is equal."""
        trees = self.config.trees
        told = {
            "objective": OBJECTIVES[self.task.kind],
            "max_depth": trees.max_depth,
            "learning_rate": trees.learning_rate,
            "min_child_weight": trees.min_child_weight,
            "subsample": trees.row_share,
            "colsample_bytree": trees.column_share,
            "reg_lambda": trees.l2,
            "max_bin": trees.max_bins,
            "tree_method": "hist",
            "device": "cuda" if self.config.use_gpu else "cpu",
            "nthread": self.num_threads,
            "seed": self.config.seed,
            "seed_per_iteration": True,
            "verbosity": 0,
        }
        return {**told, "num_class": self.task.num_outputs} if self.task.num_outputs > 1 else told


def grow(
    growth: Growth,
    *,
    resume: FitState | None = None,
    on_epoch: Callable[[FitState], None] = lambda state: None,
) -> FitState:
    """Grow trees until early stopping, then, with `config.refit`, anew on the stop rows too.

    `on_epoch` sees the state after each epoch. Raises ValueError without rows.
    """
    config = growth.config
    if not len(growth.train) or not len(growth.stop):
        raise ValueError(
            "training needs rows with known labels, "
            f"got {len(growth.train)} to train and {len(growth.stop)} to stop"
        )
    state = resume or FitState()
    rows = _matrix(growth, growth.train)
    while not state.is_searched(config):
        state = _search(growth, rows, state)
        on_epoch(state)
    if state.is_finished(config):
        return state
    if not state.refit_epochs:
        state = replace(state, weights={}, average={})
    rows = _matrix(growth, growth.train.and_(growth.stop.part(growth.rank, growth.num_workers)))
    while not state.is_finished(config):
        booster, loss = _advance(growth, rows, state.weights)
        epoch = _epoch(len(state.refit_epochs) + 1, rows, growth, loss)
        kept = _tensors(booster)
        state = replace(
            state, refit_epochs=(*state.refit_epochs, epoch), weights=kept, average=kept
        )
        on_epoch(state)
    return state


def trees_of(
    config: TrainingConfig, shape: InputShape, task: LearningTask, weights: Mapping[str, Tensor]
) -> Trees:
    """Make the model that a state's tensors hold."""
    return Trees(config.trees, shape, task, weights[BOOSTER].numpy().tobytes())


def _search(growth: Growth, rows: Any, state: FitState) -> FitState:
    """Add trees and judge all so far on the stop rows."""
    booster, loss = _advance(growth, rows, state.weights)
    number = len(state.epochs) + 1
    stop_loss = _stop_loss(growth, booster)
    epoch = _epoch(number, rows, growth, loss).model_copy(update={"stop_loss": stop_loss})
    kept = _tensors(booster)
    return replace(state, weights=kept, average=kept).judged(epoch, growth.config)


def _advance(growth: Growth, rows: Any, weights: Mapping[str, Tensor]) -> tuple[Any, float]:
    """Add the trees of one epoch; give the booster and XGBoost's own loss on the rows."""
    before = read_booster(weights[BOOSTER].numpy().tobytes()) if weights else None
    seen: dict[str, dict[str, list[float]]] = {}
    booster = xgboost().train(
        growth.parameters,
        rows,
        growth.config.trees.trees_per_epoch,
        evals=[(rows, "train")],
        evals_result=seen,
        verbose_eval=False,
        xgb_model=before,
    )
    [losses] = seen["train"].values()
    return booster, losses[-1]


def _stop_loss(growth: Growth, booster: Any) -> float:
    stop, task = growth.stop, growth.task
    margins = predict_margins(booster, stop.encoded, task)
    predictions = task.predict(margins).numpy().astype(np.float64)
    return calibrated_loss(task, stop.labels, predictions, stop.groups)


def _matrix(growth: Growth, rows: Rows) -> Any:
    if rows.groups is None:
        return matrix(rows.encoded, label=growth.task.targets(rows.labels))
    # XGBoost wants lists in one piece and in ascending order.
    order = np.argsort(rows.groups, kind="stable")
    lists, rows = rows.groups[order], rows.take(order)
    return matrix(rows.encoded, label=growth.task.targets(rows.labels), qid=lists)


def _epoch(number: int, rows: Any, growth: Growth, loss: float) -> Epoch:
    return Epoch(number=number, num_rows=rows.num_row() * growth.num_workers, train_loss=loss)


def _tensors(booster: Any) -> dict[str, Tensor]:
    return {BOOSTER: torch.frombuffer(bytearray(booster.save_raw("json")), dtype=torch.uint8)}

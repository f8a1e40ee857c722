"""Gradient-boosted trees over encoded rows, as XGBoost grows them: JSON on disk.

An optional extra. Knows encoded rows and boosters; knows nothing of columns or of how trees are
grown. A null number is a missing value; a category's code is a category.
"""

import json
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from app.data.features import NULL_POSITION, Encoded, InputShape
from app.model.tasks import LearningTask, task_from
from app.sections import TreesConfig

TREES = "trees.json"


class Trees:
    """A booster, the task that its margins answer, and what it was grown with."""

    def __init__(
        self, config: TreesConfig, shape: InputShape, task: LearningTask, booster: bytes
    ) -> None:
        """Read a booster's JSON. Raises ValueError when XGBoost is absent or cannot read it."""
        self.config, self.shape, self.task = config, shape, task
        self._json = booster
        self._booster = read_booster(booster)

    def predict(self, encoded: Encoded) -> NDArray[np.float64]:
        """Predict encoded rows before calibration: [B], of several classes [B, C]."""
        margins = predict_margins(self._booster, encoded, self.task)
        return self.task.predict(margins).numpy().astype(np.float64)

    @property
    def size(self) -> dict[str, int]:
        """Count the trees, those of every class."""
        grown = json.loads(self._json)["learner"]["gradient_booster"]["model"]["trees"]
        return {"num_trees": len(grown)}

    def description(self) -> dict[str, object]:
        """Say what the trees were grown with, as JSON."""
        return {
            "trees": self.config.model_dump(),
            "shape": self.shape.model_dump(),
            "task": self.task.model_dump(),
        }

    def content(self) -> tuple[str, bytes]:
        """Give the trees' file: its name and bytes."""
        return TREES, self._json

    @classmethod
    def restore(cls, document: Mapping[str, Any], booster: bytes) -> Self:
        """Make the trees that `description` and `content` were of."""
        return cls(
            TreesConfig.model_validate(document["trees"]),
            InputShape.model_validate(document["shape"]),
            task_from(document["task"]),
            booster,
        )


def xgboost() -> Any:
    """Import XGBoost. Raises ValueError that says how to install it."""
    try:
        import xgboost as package
    except ImportError as error:
        raise ValueError(
            "training.model: trees need XGBoost; pip install 'mainspring[trees]', or xgboost "
            "itself to grow them on GPUs"
        ) from error
    return package


def matrix(encoded: Encoded, **columns: NDArray[Any]) -> Any:
    """Give encoded rows to XGBoost; `columns` are its own: label, qid."""
    package = xgboost()
    numbers = np.where(encoded.numbers == NULL_POSITION, np.float32(np.nan), encoded.numbers)
    codes = encoded.categories.astype(np.float32)
    kinds = ["q"] * numbers.shape[1] + ["c"] * codes.shape[1]
    return package.DMatrix(
        np.hstack([numbers, codes]), feature_types=kinds, enable_categorical=True, **columns
    )


def read_booster(content: bytes) -> Any:
    """Read a booster's JSON. Raises ValueError when it is none."""
    package = xgboost()
    booster = package.Booster()
    try:
        booster.load_model(bytearray(content))
    except package.core.XGBoostError as error:
        raise ValueError(f"{TREES}: no booster of XGBoost: {error}") from error
    return booster


def predict_margins(booster: Any, encoded: Encoded, task: LearningTask) -> torch.Tensor:
    """Give what the trees add up to, as logits [B, 1, O] of one member."""
    if not len(encoded):
        return torch.empty(0, 1, task.num_outputs)
    margins = booster.predict(matrix(encoded), output_margin=True)
    return torch.from_numpy(margins.reshape(len(encoded), 1, task.num_outputs))

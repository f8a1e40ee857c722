"""Measure predictions by what is predicted: the figures of a task, and the loss of each row.

Knows the contract's task and what a bundle predicts for it; the arithmetic is that of the task's
own file.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.contracts.records import Metric
from app.contracts.rows import Contract, Task
from app.model.binary import binary_figures
from app.model.classes import class_figures, class_losses
from app.model.evaluation import binary_losses
from app.model.intervals import Array, Bootstrap
from app.model.lists import list_figures
from app.model.values import value_figures, value_losses

# An order has a loss a list, and none a row.
ROW_LOSSES: dict[Task, str] = {
    "binary": "log loss",
    "multiclass": "log loss",
    "regression": "squared error",
}


def labels_of(rows: pa.Table) -> Array:
    """Read the outcomes of rows that all have one."""
    labels: Array = rows["label"].to_numpy().astype(np.float64)
    return labels


def figures_of(
    contract: Contract, rows: pa.Table, predictions: Array, bootstrap: Bootstrap
) -> dict[str, Metric]:
    """Give every figure of the task; predictions are what the bundle gives, [N] or [N, C].

    Raises ValueError where the rows cannot be measured: OneOutcome, no row, no relevant row.
    """
    labels = labels_of(rows)
    if contract.task == "multiclass":
        return class_figures(labels.astype(np.int64), predictions, bootstrap)
    if contract.task == "regression":
        return value_figures(labels, predictions, bootstrap)
    if contract.group is not None:
        return list_figures(labels, predictions, _groups(rows, contract.group), bootstrap)
    return binary_figures(labels, predictions, bootstrap)


def losses_of(task: Task, labels: Array, predictions: Array) -> Array:
    """Give the loss of each row, [N]. Raises ValueError for a task without one."""
    if task == "binary":
        return binary_losses(labels, predictions)
    if task == "multiclass":
        return class_losses(labels.astype(np.int64), predictions)
    if task == "regression":
        return value_losses(labels, predictions)
    raise ValueError(f"{task} has a loss a list, none a row")


def _groups(rows: pa.Table, name: str) -> NDArray[np.int64]:
    """Number the lists; rows without one stand in a list of their own."""
    column = rows.column(name).combine_chunks()
    encoded = column.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    numbers: NDArray[np.int64] = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    return numbers

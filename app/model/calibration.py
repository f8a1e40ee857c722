"""Make predictions mean what they say: the kinds of calibrators, and which one is fitted.

Knows arrays of predictions and outcomes; knows nothing of the model that made them. All kinds share
one file, whose `kind` says what it holds; one that names none is Platt's. A bundle keeps the reason
where another kind was taken than the configuration names.
"""

from collections.abc import Callable, Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Tag, TypeAdapter

from app.contracts.rows import Task
from app.model.correction import Array, CannotFit, Correction
from app.model.isotonic import Isotonic
from app.model.linear import Linear, Unchanged
from app.model.measures import losses_of
from app.model.platt import Platt
from app.model.temperature import Temperature

__all__ = [
    "Calibrator",
    "CannotFit",
    "Correction",
    "Isotonic",
    "Linear",
    "Platt",
    "Temperature",
    "Unchanged",
    "fit_calibrator",
    "read_calibrator",
]

# The calibrator of a binary model unless another kind is asked for; as it stands, it changes
# nothing.
Calibrator = Platt
Labels = NDArray[np.generic]
Fit = Callable[[Array, Labels], Correction]

# From the simplest on.
KINDS: Mapping[Task, Mapping[str, Fit]] = {
    "binary": {
        "none": Unchanged.fit,
        "temperature": Temperature.fit,
        "platt": Platt.fit,
        "isotonic": Isotonic.fit,
    },
    "multiclass": {"none": Unchanged.fit, "temperature": Temperature.fit},
    "regression": {"none": Unchanged.fit, "linear": Linear.fit},
    "ranking": {"none": Unchanged.fit},
}
# What stands for the usual kind, and for one that is made for another task.
USUAL: Mapping[Task, str] = {
    "binary": "platt",
    "multiclass": "temperature",
    "regression": "linear",
    "ranking": "none",
}
NUM_FOLDS = 5
# Evenly spread rows are enough to tell kinds apart, whatever the number of stop rows.
COMPARED_ROWS = 50_000


def fit_calibrator(
    kind: str, predictions: Array, labels: Labels, task: Task | None = None
) -> Correction:
    """Fit a calibrator of a kind, or of the best kind with `auto`; deterministic.

    Predictions are probabilities [B] or [B, C], or values or scores [B]; without a task, two
    columns mean multiclass and one binary, or regression for `linear`. "platt" stands for the
    usual kind of any task. A kind that is made for another task, or that cannot be fitted on these
    rows, gives way to the usual one, and the calibrator's `reason` says so. Raises ValueError for
    a kind that does not exist.
    """
    task = task or _task_of(kind, predictions)
    kinds, usual = KINDS[task], USUAL[task]
    if kind == "auto":
        kind, reason = _best(kinds, predictions, labels, task)
        return _explained(fit_calibrator(kind, predictions, labels, task), reason)
    if kind not in {name for each in KINDS.values() for name in each}:
        raise ValueError(f"training.calibration: there is no kind {kind}; take platt or auto")
    if kind not in kinds:
        reason = "" if kind == "platt" else f"{kind} is not for {task}: {usual} instead"
        return _explained(kinds[usual](predictions, labels), reason)
    try:
        return kinds[kind](predictions, labels)
    except CannotFit as error:
        return _explained(kinds[usual](predictions, labels), f"{error}: {usual} instead")


def _task_of(kind: str, predictions: Array) -> Task:
    if np.ndim(predictions) == 2:
        return "multiclass"
    return "regression" if kind == "linear" else "binary"


def _best(
    kinds: Mapping[str, Fit], predictions: Array, labels: Labels, task: Task
) -> tuple[str, str]:
    """Choose, and say why, the simplest kind whose loss is within one standard error of the least.

    The losses are cross-validated, every fifth row apart, on at most 100,000 rows; the rule is that
    of Breiman et al., Classification and regression trees (1984).
    """
    spread = slice(None, None, max(len(labels) // COMPARED_ROWS, 1))
    losses, refused = dict[str, Array](), ""
    for name, fit in kinds.items():
        try:
            losses[name] = _cross_validated(fit, predictions[spread], labels[spread], task)
        except CannotFit as error:
            refused = f"; {error}"
    means = {name: float(loss.mean()) if len(loss) else 0.0 for name, loss in losses.items()}
    least = min(means, key=lambda name: means[name])
    chosen = next(name for name in losses if _is_as_good(losses[name], losses[least]))
    shown = ", ".join(f"{name} {mean:.6g}" for name, mean in means.items())
    return chosen, f"auto: loss in {NUM_FOLDS} folds: {shown}{refused}"


def _is_as_good(losses: Array, least: Array) -> bool:
    """Tell whether a mean of paired losses is within one standard error of the least."""
    worse = losses - least
    return len(worse) < 2 or float(worse.mean()) <= float(worse.std(ddof=1)) / len(worse) ** 0.5


def _cross_validated(fit: Fit, predictions: Array, labels: Labels, task: Task) -> Array:
    """Give each row's loss under a calibrator that was fitted on the other folds."""
    labels = np.asarray(labels)
    losses = np.empty(len(labels), np.float64)
    folds = np.arange(len(labels)) % NUM_FOLDS
    for fold in range(min(NUM_FOLDS, len(labels))):
        held = folds == fold
        corrected = fit(predictions[~held], labels[~held]).apply(predictions[held])
        # An order has no loss a row: its scores count as values.
        losses[held] = losses_of(
            "regression" if task == "ranking" else task, labels[held], corrected
        )
    return losses


def _explained(calibrator: Correction, reason: str) -> Correction:
    """Put a reason before those that the calibrator has."""
    reasons = [each for each in (reason, calibrator.reason) if each]
    return calibrator.model_copy(update={"reason": "; ".join(reasons)})


def _kind_of(document: object) -> object:
    """Name what a file holds; from the beginning there was one kind, and none was named."""
    return document.get("kind", "platt") if isinstance(document, dict) else None


_ANY = Annotated[
    Annotated[Platt, Tag("platt")]
    | Annotated[Temperature, Tag("temperature")]
    | Annotated[Isotonic, Tag("isotonic")]
    | Annotated[Linear, Tag("linear")]
    | Annotated[Unchanged, Tag("none")],
    Discriminator(_kind_of),
]
_READER: TypeAdapter[Correction] = TypeAdapter(_ANY)


def read_calibrator(content: bytes) -> Correction:
    """Read what any kind's to_json wrote. Raises pydantic's ValidationError for anything else."""
    return _READER.validate_json(content)

"""Tell how a model does slice by slice: those that the contract declares, and the worst there are.

Knows rows, predictions and the evaluation section; knows nothing of networks. Values of columns
that are not public are written nowhere, so only public columns are searched.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.contracts.evaluations import Condition, SliceReport, SliceSearch
from app.contracts.records import Metric
from app.contracts.rows import Contract
from app.contracts.times import day_numbers
from app.data.features import text_column
from app.model.conditions import cut_category, cut_columns
from app.model.evaluation import OneOutcome, evaluate
from app.model.intervals import Array, mean_of, normal
from app.model.measures import labels_of, losses_of
from app.model.slices import Kind, find_slices
from app.sections import EvaluationConfig

NUM_SLICE_BOOTSTRAPS = 100
MAX_DECLARED = 40
MIN_DECLARED_ROWS = 30


@dataclass(frozen=True)
class Judged:
    """Rows with known outcomes and what was predicted for them."""

    contract: Contract
    rows: pa.Table
    predictions: Array
    """[N], or [N, C] for several classes."""
    by_day: bool = True
    """Whether the time of a row means anything: then rows are compared with others of their day."""

    @cached_property
    def labels(self) -> Array:
        """Outcomes, [N]."""
        return labels_of(self.rows)

    @cached_property
    def losses(self) -> Array:
        """The loss of each row, [N]."""
        return losses_of(self.contract.task, self.labels, self.predictions)

    @cached_property
    def days(self) -> NDArray[np.int64] | None:
        """The UTC day of each row, [N]; None where days mean nothing."""
        return day_numbers(self.rows["prediction_time"]) if self.by_day else None

    def within_days(self, errors: Array) -> Array:
        """Take from each row's error the mean of its day: a bad day is no slice, it is weather."""
        if self.days is None:
            alone: Array = errors - errors.mean()
            return alone
        _, codes = np.unique(self.days, return_inverse=True)
        means: Array = np.bincount(codes, errors) / np.bincount(codes)
        centred: Array = errors - means[codes]
        return centred

    @cached_property
    def gaps(self) -> Array | None:
        """Outcome less prediction, [N]; None for several classes."""
        if self.contract.task == "multiclass":
            return None
        return self.labels - self.predictions


def declared_slices(judged: Judged, config: EvaluationConfig, seed: int) -> list[SliceReport]:
    """Describe every value of the contract's slices that has enough rows, the largest first."""
    described = []
    for name in judged.contract.slices:
        cut = cut_category(name, text_column(judged.rows, name))
        counts = np.bincount(cut.codes, minlength=len(cut.says))
        for code in np.argsort(-counts, kind="stable")[:MAX_DECLARED]:
            if counts[code] < MIN_DECLARED_ROWS or counts[code] == len(judged.labels):
                continue
            conditions = (cut.condition(int(code)),)
            described.append(
                describe(judged, cut.codes == code, conditions, config=config, seed=seed)
            )
    return described


def search_slices(judged: Judged, config: EvaluationConfig, seed: int) -> SliceSearch:
    """Search for the slices that the model does worst on.

    Worst is a loss above that of the other rows of the same days, and for numbers and probabilities
    also a prediction that is too low or too high there, by more than on these days altogether.
    """
    features = judged.contract.features
    public = [column for column in features if column.privacy == "public"]
    cuts = cut_columns(judged.rows, public, config.min_slice_rows)
    found = find_slices(
        cuts,
        _errors(judged),
        clusters=judged.days,
        min_rows=config.min_slice_rows,
        most=config.max_slices,
        false_discovery_share=config.false_discovery_share,
        confidence=config.confidence,
    )
    described = [
        describe(
            judged,
            one.mask(cuts),
            tuple(cuts[place].condition(code) for place, code in one.parts),
            config=config,
            seed=seed,
        ).model_copy(update={"found_by": one.kind, "q_value": one.q_value})
        for one in found.found
    ]
    return SliceSearch(
        num_columns=len(public),
        num_withheld=len(features) - len(public),
        num_tested=found.num_tested,
        num_significant=found.num_significant,
        found=tuple(described),
    )


def describe(
    judged: Judged,
    mask: NDArray[np.bool_],
    conditions: tuple[Condition, ...],
    *,
    config: EvaluationConfig,
    seed: int,
) -> SliceReport:
    """Describe the rows of a mask, some of all and not all of them."""
    inside, centred = judged.losses[mask], judged.within_days(judged.losses)
    error = max(
        math.sqrt(centred[mask].var() / len(inside) + centred[~mask].var() / (~mask).sum()),
        _error_by_day(judged, mask, centred),
    )
    excess = float(centred[mask].mean() - centred[~mask].mean())
    gaps = judged.gaps
    return SliceReport(
        conditions=conditions,
        num_rows=len(inside),
        row_share=float(mask.mean()),
        loss=mean_of(inside, config.confidence),
        excess=normal(excess, error, config.confidence),
        outcome=float(judged.labels[mask].mean()),
        predicted=None if gaps is None else float(judged.predictions[mask].mean()),
        gap=None if gaps is None else mean_of(gaps[mask], config.confidence),
        roc_auc=_area(judged, mask, config.confidence, seed),
    )


def _error_by_day(judged: Judged, mask: NDArray[np.bool_], centred: Array) -> float:
    """Give the standard error of a slice's mean from day to day; 0 where it has one day only."""
    if judged.days is None:
        return 0.0
    known, codes = np.unique(judged.days[mask], return_inverse=True)
    sums = np.bincount(codes, centred[mask] - centred[mask].mean())
    return math.sqrt(float((sums**2).sum()) * len(known) / max(len(known) - 1, 1)) / len(codes)


def _errors(judged: Judged) -> Mapping[Kind, Array]:
    losses = judged.within_days(judged.losses)
    if judged.gaps is None:
        return {"loss": losses}
    gaps = judged.within_days(judged.gaps)
    return {"loss": losses, "too_low": gaps, "too_high": -gaps}


def _area(judged: Judged, mask: NDArray[np.bool_], confidence: float, seed: int) -> Metric | None:
    if judged.contract.task != "binary":
        return None
    try:
        return evaluate(
            judged.labels[mask],
            judged.predictions[mask],
            num_bootstraps=NUM_SLICE_BOOTSTRAPS,
            confidence=confidence,
            seed=seed,
        ).roc_auc
    except OneOutcome:
        # Nothing to rank: the slice has its other figures.
        return None

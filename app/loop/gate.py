"""Decide whether a candidate may replace the champion. In doubt it may not.

Knows paired rows and limits; knows nothing of where rows come from or how roles change.
"""

from datetime import date
from typing import Literal

import numpy as np

from app.contracts.records import Evaluation, GateReport, Metric, ModelVersion
from app.contracts.times import midnight
from app.loop.paired import Draws, PairedRows, auc_gain, brier_gain
from app.model.evaluation import evaluate
from app.sections import GateConfig

Aim = Literal["ranking", "calibration"]
# A slice needs so many rows of either outcome before its AUC says anything.
MIN_SLICE_OUTCOMES = 50
# A new calibrator keeps the order of rows; a larger loss means that something else changed.
MAX_AUC_LOSS_OF_CALIBRATION = 0.001


def gate_days(candidate: ModelVersion, champion: ModelVersion | None) -> tuple[str, ...]:
    """List the UTC dates outside training, early stopping and calibration of both versions."""
    days = sorted(candidate.held_out_days)
    if champion is None:
        return tuple(days)
    return tuple(day for day in days if day in champion.held_out_days or _is_after(day, champion))


def _is_after(day: str, version: ModelVersion) -> bool:
    return midnight(date.fromisoformat(day)) >= version.trained_until


def judge(
    rows: PairedRows,
    config: GateConfig,
    seed: int,
    *,
    aim: Aim = "ranking",
    has_champion: bool = True,
) -> GateReport:
    """Compare candidate (`new`) with champion (`old`) and report every reason with its numbers.

    A candidate that was trained must rank better within days with confidence, and no worse over all
    rows; a recalibrated one must have the better Brier score with confidence and rank the same.
    Without a champion, `old` is ignored.
    """
    draws = Draws(config.num_bootstraps, config.confidence, seed)
    refusals, merits = _enough(rows, config)
    if len(np.unique(rows.label)) < 2:
        return _unjudged(
            rows, [*refusals, "the gate's rows hold one outcome only; nothing can be compared"]
        )
    candidate = _evaluate(rows, rows.new, draws)
    champion = _evaluate(rows, rows.old, draws) if has_champion else None
    gain = auc_gain(rows, draws) if has_champion else None
    ranking = auc_gain(rows, draws, within_days=True) if has_champion else None
    error = brier_gain(rows, draws) if has_champion else None
    slices = _slice_gains(rows, draws) if has_champion else {}
    if not has_champion:
        findings = [_first_auc(candidate, config)]
    elif gain is None or ranking is None or error is None:
        return _unjudged(rows, [*refusals, f"no {rows.unit} of the gate holds both outcomes"])
    elif aim == "ranking":
        findings = [_ranks_better(ranking, config), _auc_no_worse(gain, config)]
        findings.append(_brier_no_worse(error, config))
        findings += [_slice_no_worse(name, metric, config) for name, metric in slices.items()]
    else:
        findings = [_brier_better(error, config), _ranks_the_same(gain)]
    findings.append(_calibrated(candidate, config))
    refusals += [text for holds, text in findings if not holds]
    merits += [text for holds, text in findings if holds]
    return GateReport(
        passed=not refusals,
        reasons=tuple(refusals or merits),
        num_rows=len(rows),
        num_days=rows.num_days,
        champion=champion,
        candidate=candidate,
        auc_gain=gain,
        ranking_gain=ranking,
        brier_gain=error,
        slices=slices,
    )


def _evaluate(rows: PairedRows, probability: np.ndarray, draws: Draws) -> Evaluation:
    return evaluate(
        rows.label,
        probability,
        num_bootstraps=draws.num_bootstraps,
        confidence=draws.confidence,
        seed=draws.seed,
    )


def _enough(rows: PairedRows, config: GateConfig) -> tuple[list[str], list[str]]:
    found = f"{len(rows):,} rows of {rows.num_days} {rows.unit}s outside both trainings"
    refusals = []
    if len(rows) < config.min_rows:
        refusals.append(f"{found}: fewer than {config.min_rows:,} rows")
    if rows.num_days < config.min_days:
        refusals.append(f"{found}: fewer than {config.min_days} {rows.unit}s")
    return refusals, [found]


def _unjudged(rows: PairedRows, refusals: list[str]) -> GateReport:
    nothing = Metric(value=0.0, low=0.0, high=1.0)
    share = float(rows.label.mean()) if len(rows) else 0.0
    mean = float(rows.new.mean()) if len(rows) else 0.0
    unknown = Evaluation(
        num_rows=len(rows),
        positive_share=share,
        mean_probability=mean,
        roc_auc=nothing,
        pr_auc=nothing,
        brier=nothing,
        log_loss=0.0,
        calibration_error=1.0,
    )
    return GateReport(
        passed=False,
        reasons=tuple(refusals),
        num_rows=len(rows),
        num_days=rows.num_days,
        champion=None,
        candidate=unknown,
    )


def _slice_gains(rows: PairedRows, draws: Draws) -> dict[str, Metric]:
    gains: dict[str, Metric] = {}
    for column, values in rows.slices.items():
        for value in sorted({str(item) for item in values if item is not None}):
            part = rows.only(values == value)
            num_positive = int((part.label == 1).sum())
            if min(num_positive, len(part) - num_positive) < MIN_SLICE_OUTCOMES:
                continue
            gain = auc_gain(part, draws, within_days=True)
            if gain is not None:
                gains[f"{column}={value}"] = gain
    return gains


def _interval(metric: Metric, config: GateConfig) -> str:
    interval = f"{config.confidence:.0%} interval {metric.low:+.4f} to {metric.high:+.4f}"
    return f"{metric.value:+.4f} ({interval})"


def _first_auc(candidate: Evaluation, config: GateConfig) -> tuple[bool, str]:
    low = candidate.roc_auc.low
    text = (
        f"AUC {candidate.roc_auc.value:.3f} (at least {low:.3f}) with no champion to beat, "
        f"{config.min_bootstrap_auc:.3f} needed"
    )
    return low >= config.min_bootstrap_auc, text


def _ranks_better(gain: Metric, config: GateConfig) -> tuple[bool, str]:
    return (
        gain.low > config.min_ranking_gain,
        f"AUC gain within days {_interval(gain, config)}, its lower end must be over "
        f"{config.min_ranking_gain:+.4f}",
    )


def _auc_no_worse(gain: Metric, config: GateConfig) -> tuple[bool, str]:
    return (
        _bears(gain, config.max_auc_loss),
        f"AUC gain over all rows {_interval(gain, config)}, a loss up to "
        f"{config.max_auc_loss:.3f} that may be chance is borne",
    )


def _brier_no_worse(gain: Metric, config: GateConfig) -> tuple[bool, str]:
    return (
        _bears(gain, config.max_brier_loss),
        f"Brier gain {_interval(gain, config)}, a loss up to {config.max_brier_loss:.4f} that may "
        "be chance is borne",
    )


def _bears(gain: Metric, limit: float) -> bool:
    """Tell whether a loss is small and not shown: with much noise the limit alone is a lottery."""
    return gain.value >= -limit and gain.high >= 0


def _slice_no_worse(name: str, gain: Metric, config: GateConfig) -> tuple[bool, str]:
    return (
        gain.value >= -config.max_slice_auc_loss,
        f"slice {name}: AUC gain within days {_interval(gain, config)}, a loss up to "
        f"{config.max_slice_auc_loss:.3f} is borne",
    )


def _brier_better(gain: Metric, config: GateConfig) -> tuple[bool, str]:
    return gain.low > 0, f"Brier gain {_interval(gain, config)}, its lower end must be over 0"


def _ranks_the_same(gain: Metric) -> tuple[bool, str]:
    return (
        gain.value >= -MAX_AUC_LOSS_OF_CALIBRATION,
        f"AUC gain {gain.value:+.4f}, a recalibration may lose {MAX_AUC_LOSS_OF_CALIBRATION:.3f}",
    )


def _calibrated(candidate: Evaluation, config: GateConfig) -> tuple[bool, str]:
    return (
        candidate.calibration_error <= config.max_calibration_error,
        f"calibration error {candidate.calibration_error:.3f}, "
        f"{config.max_calibration_error:.3f} is borne",
    )

"""Keep a promoted champion on trial: do matured outcomes show harm?

Knows paired live rows and limits; knows nothing of where rows come from or how a champion is taken
back.
"""

import math

from app.contracts.records import Metric, WatchReport
from app.loop.paired import Draws, PairedRows, auc_gain, brier_gain
from app.sections import GateConfig, WatchConfig


def judge_watch(
    rows: PairedRows, config: WatchConfig, gate: GateConfig, seed: int, *, final: bool
) -> WatchReport:
    """Compare the champion (`new`) with the previous one (`old`) on live rows with known outcomes.

    Harm is a loss over its limit whose interval excludes 0. The interval is widened for the number
    of looks (Bonferroni), because a watch that looks often would otherwise find harm by chance.
    """
    num_looks = math.ceil(config.days / config.look_days)
    confidence = 1 - (1 - gate.confidence) / num_looks
    draws = Draws(gate.num_bootstraps, confidence, seed)
    auc, brier = auc_gain(rows, draws), brier_gain(rows, draws)
    found = f"{len(rows):,} outcomes of {rows.num_days} days since the promotion"
    if (
        auc is None
        or brier is None
        or len(rows) < config.min_labels
        or rows.num_days < gate.min_days
    ):
        reason = f"{found}, {config.min_labels:,} of {gate.min_days} days are needed to judge"
        return WatchReport(
            verdict="wait", reasons=(reason,), num_rows=len(rows), num_days=rows.num_days
        )
    harms = _harms(auc, brier, config, confidence)
    figures = (
        f"{found}: AUC {auc.value:+.4f} ({auc.low:+.4f} to {auc.high:+.4f}) and Brier gain "
        f"{brier.value:+.4f} ({brier.low:+.4f} to {brier.high:+.4f}) against the previous champion"
    )
    verdict = "harm" if harms else "keep" if final else "wait"
    return WatchReport.model_validate(
        {
            "verdict": verdict,
            "reasons": (*harms, figures),
            "num_rows": len(rows),
            "num_days": rows.num_days,
            "auc_gain": auc,
            "brier_gain": brier,
        }
    )


def _harms(auc: Metric, brier: Metric, config: WatchConfig, confidence: float) -> list[str]:
    harms = []
    for name, gain, limit in (
        ("AUC", auc, config.auc_harm),
        ("Brier score", brier, config.brier_harm),
    ):
        if gain.value <= -limit and gain.high < 0:
            harms.append(
                f"{name} is worse than the previous champion's by {-gain.value:.4f} "
                f"(limit {limit:.4f}, with {confidence:.1%} confidence over 0)"
            )
    return harms

"""Say whether a cure may be tried now: labels, cool-down, budget and expected benefit.

Knows limits and counts; knows nothing of phases. A permission names every limit with its number,
whether it holds or not.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from app.contracts.records import Diagnosis, Evidence, LoopState
from app.monitoring.diagnosis import shifted_columns
from app.sections import GovernorConfig, LoopConfig


class Permission(NamedTuple):
    """Granted or not, with every reason that counted."""

    granted: bool
    reasons: tuple[str, ...]


def may_start(
    state: LoopState, config: GovernorConfig, num_labels: int, now: datetime
) -> Permission:
    """May a first model be trained? A failed try waits `retry_days` and costs budget."""
    checks = [
        (
            num_labels >= config.min_new_labels,
            f"{num_labels:,} outcomes are known ({config.min_new_labels:,} needed)",
        )
    ]
    if state.last_training_at is not None:
        checks.append(_rested(state.last_training_at, config.retry_days, now, "training"))
    if state.attempts:
        checks.append(_budget(state, config, now))
    return _permission(checks)


def may_retrain(
    state: LoopState,
    config: LoopConfig,
    evidence: Evidence,
    diagnosis: Diagnosis,
    num_trained_on: int,
    now: datetime,
) -> Permission:
    """May the champion be trained anew on everything known now?"""
    governor = config.governor
    num_new = evidence.num_new_labels + state.carried_labels
    new_share = num_new / num_trained_on if num_trained_on else 1.0
    checks = [
        (
            num_new >= governor.min_new_labels,
            f"{num_new:,} new labels since training, {new_share:.0%} of the training set "
            f"({governor.min_new_labels:,} needed)",
        ),
        _budget(state, governor, now),
    ]
    if state.last_training_at is not None:
        checks.append(_rested(state.last_training_at, governor.cooldown_days, now, "training"))
    checks.append(_benefit(evidence, diagnosis, config, new_share))
    return _permission(checks)


def may_recalibrate(
    state: LoopState, config: GovernorConfig, persisted: bool, now: datetime
) -> Permission:
    """May the champion get a new calibrator? Cheap: only persistence and cool-down limit it."""
    checks = [(persisted, f"the wrong calibration persisted over {config.persistence} evidences")]
    if state.last_recalibration_at is not None:
        last = state.last_recalibration_at
        checks.append(_rested(last, config.cooldown_days, now, "recalibration"))
    if not persisted:
        return Permission(False, ("the wrong calibration has not persisted",))
    return _permission(checks)


def _benefit(
    evidence: Evidence, diagnosis: Diagnosis, config: LoopConfig, new_share: float
) -> tuple[bool, str]:
    """Expect benefit where much has changed and much has been learned about the change."""
    num_shifted = len(shifted_columns(evidence, config.diagnosis))
    drifted_share = num_shifted / len(evidence.columns) if evidence.columns else 0.0
    # A changed outcome concerns every row; of the columns it takes a part to change most rows.
    full = config.governor.full_drift_share
    weight = min(1.0, drifted_share / full) if diagnosis.cause == "covariate_shift" else 1.0
    benefit = weight * new_share
    return (
        benefit >= config.governor.min_benefit,
        f"expected benefit {benefit:.2f} (weight of the drift {weight:.0%} times {new_share:.0%} "
        f"new labels, {config.governor.min_benefit:.2f} needed)",
    )


def _rested(last: datetime, days: float, now: datetime, what: str) -> tuple[bool, str]:
    since = (now - last) / timedelta(days=1)
    return since >= days, f"last {what} {since:.0f} days ago ({days:g} needed)"


def _budget(state: LoopState, config: GovernorConfig, now: datetime) -> tuple[bool, str]:
    since = now - timedelta(days=config.budget_days)
    num_spent = sum(1 for attempt in state.attempts if attempt > since)
    return (
        num_spent < config.max_retrainings,
        f"{num_spent} of {config.max_retrainings} trainings spent in {config.budget_days:g} days",
    )


def _permission(checks: list[tuple[bool, str]]) -> Permission:
    granted = all(holds for holds, _ in checks)
    if granted:
        return Permission(True, tuple(reason for _, reason in checks))
    return Permission(False, tuple(f"waiting: {reason}" for holds, reason in checks if not holds))

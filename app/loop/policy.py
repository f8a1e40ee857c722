"""Decide what the loop does next, and say why.

Knows the loop's state, evidence, roles and limits; knows nothing of how an action is carried out,
and reads no clock. The same facts give the same action: a rehearsal and a restarted steward decide
alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.contracts.records import Action, Cause, Diagnosis, Evidence, LoopState, Roles
from app.loop.governor import Permission, may_recalibrate, may_retrain, may_start
from app.monitoring.diagnosis import diagnose
from app.sections import LoopConfig

DRIFTS: tuple[Cause, ...] = ("concept_drift", "prior_shift", "covariate_shift")


@dataclass(frozen=True)
class Facts:
    """What the loop knows of the world at one moment."""

    evidence: Sequence[Evidence]
    """Of every version, newest last."""
    roles: Roles
    num_labels: int = 0
    """Known outcomes in the tables; read only while there is no champion."""
    num_trained_on: int = 0
    """Known outcomes that the champion's network learned from."""


def next_action(state: LoopState, facts: Facts, config: LoopConfig, now: datetime) -> Action:
    """Give the next action and its reasons; `observe` means that there is nothing to do yet."""
    if state.phase == "gate":
        return _of(
            state,
            "gate",
            "the candidate is compared with the champion on rows neither learned from",
        )
    if state.phase == "promote":
        return _after_gate(state)
    if facts.roles.champion is None:
        return _first_model(state, facts, config, now)
    mine = [item for item in facts.evidence if item.version == facts.roles.champion]
    diagnoses = [diagnose(item, config.diagnosis) for item in mine]
    urgent = _urgent(state, facts.roles, mine, diagnoses)
    if urgent is not None:
        return urgent
    if state.phase == "watch":
        return _watching(state, config, now)
    if not mine:
        return Action(kind="observe", reasons=("no evidence about the champion yet",))
    return _cure(state, facts, config, now, mine, diagnoses)


def _of(state: LoopState, kind: str, *reasons: str) -> Action:
    return Action.model_validate({"kind": kind, "reasons": reasons, "candidate": state.candidate})


def _after_gate(state: LoopState) -> Action:
    if state.gate is None:
        return _of(state, "refuse", "the gate left no report; without one nothing is promoted")
    return _of(state, "promote" if state.gate.passed else "refuse", *state.gate.reasons)


def _first_model(state: LoopState, facts: Facts, config: LoopConfig, now: datetime) -> Action:
    permission = may_start(state, config.governor, facts.num_labels, now)
    return _permitted("retrain", None, ("there is no champion yet",), permission)


def _permitted(
    kind: str, cause: Cause | None, why: tuple[str, ...], permission: Permission
) -> Action:
    reasons = (*why, *permission.reasons)
    chosen = kind if permission.granted else "observe"
    return Action.model_validate({"kind": chosen, "reasons": reasons, "cause": cause})


def _urgent(
    state: LoopState, roles: Roles, evidence: Sequence[Evidence], diagnoses: Sequence[Diagnosis]
) -> Action | None:
    """Answer, once an episode, what training must not touch: alert, or take back."""
    if not diagnoses:
        return None
    newest = diagnoses[-1]
    if newest.cause not in ("broken_data", "unseen_categories", "serving_skew"):
        return None
    began = evidence[len(diagnoses) - _run_length(diagnoses, (newest.cause,))].end
    last = state.alerts.get(newest.cause)
    if last is not None and last >= began:
        return Action(
            kind="observe",
            cause=newest.cause,
            reasons=(*newest.reasons, f"answered on {last:%Y-%m-%d}; nothing is trained meanwhile"),
        )
    if newest.cause == "serving_skew" and roles.previous is not None:
        return Action(
            kind="rollback",
            cause=newest.cause,
            reasons=(*newest.reasons, f"the previous champion {roles.previous[:12]} takes over"),
        )
    return Action(kind="alert", cause=newest.cause, reasons=newest.reasons)


def _run_length(diagnoses: Sequence[Diagnosis], causes: Sequence[Cause]) -> int:
    """Count the newest diagnoses in a row whose cause is one of these."""
    length = 0
    for diagnosis in reversed(diagnoses):
        if diagnosis.cause not in causes:
            break
        length += 1
    return length


def _watching(state: LoopState, config: LoopConfig, now: datetime) -> Action:
    """Look every `look_days`; roll back on harm, keep at the end of the watch."""
    assert state.promoted_at is not None
    if state.watch is not None and state.watch.verdict != "wait":
        kind = "rollback" if state.watch.verdict == "harm" else "keep"
        return Action.model_validate({"kind": kind, "reasons": state.watch.reasons})
    length = timedelta(days=config.watch.days)
    if now >= state.promoted_at + 2 * length:
        reason = "twice the time of the watch brought too few outcomes to judge; it stays, unproven"
        return Action(kind="keep", reasons=(reason,))
    last, end = state.watched_at or state.promoted_at, state.promoted_at + length
    due = last + timedelta(days=config.watch.look_days)
    if last < end:
        due = min(due, end)
    days = (now - state.promoted_at).days
    if now < due:
        return Action(
            kind="observe",
            reasons=(
                f"watching the champion promoted {days} days ago; next look on {due:%Y-%m-%d}",
            ),
        )
    return Action(
        kind="watch",
        reasons=(
            f"day {days} since the promotion, of a watch of {config.watch.days:g}: compare with "
            "the previous champion",
        ),
    )


def _cure(
    state: LoopState,
    facts: Facts,
    config: LoopConfig,
    now: datetime,
    evidence: Sequence[Evidence],
    diagnoses: Sequence[Diagnosis],
) -> Action:
    """Choose between training, recalibrating and waiting for what has persisted."""
    newest = diagnoses[-1]
    if newest.cause not in DRIFTS:
        return Action(kind="observe", cause=newest.cause, reasons=newest.reasons)
    acted = [at for at in (state.last_training_at, state.last_recalibration_at) if at is not None]
    if acted and evidence[-1].end <= max(acted):
        reason = f"acted on this evidence on {max(acted):%Y-%m-%d}"
        return Action(kind="observe", cause=newest.cause, reasons=(*newest.reasons, reason))
    length = _run_length(diagnoses, DRIFTS)
    if length < config.governor.persistence:
        seen = f"seen {length} times in a row, {config.governor.persistence} are needed"
        return Action(kind="observe", cause=newest.cause, reasons=(*newest.reasons, seen))
    retrain = may_retrain(state, config, evidence[-1], newest, facts.num_trained_on, now)
    if retrain.granted or newest.cause != "prior_shift":
        return _permitted("retrain", newest.cause, newest.reasons, retrain)
    persisted = _run_length(diagnoses, ("prior_shift",)) >= config.governor.persistence
    recalibrate = may_recalibrate(state, config.governor, persisted, now)
    if recalibrate.granted:
        return _permitted("recalibrate", newest.cause, newest.reasons, recalibrate)
    return _permitted("retrain", newest.cause, (*newest.reasons, *recalibrate.reasons), retrain)

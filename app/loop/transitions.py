"""Say where the loop stands after an act.

Knows states, decisions and outcomes; knows nothing of how the act was carried out. Pure: the same
outcome leads to the same state, however often the steward was restarted on the way.
"""

from typing import Literal

from app.contracts.records import (
    Decision,
    Evidence,
    GateReport,
    LoopState,
    ModelVersion,
    Roles,
    WatchReport,
)
from app.contracts.rows import Frozen


class Outcome(Frozen):
    """How an act ended."""

    status: Literal["done", "failed"]
    reason: str | None = None
    version: str | None = None
    kind: Literal["trained", "recalibrated"] | None = None
    gate: GateReport | None = None
    watch: WatchReport | None = None
    roles: Roles | None = None
    problems: tuple[str, ...] = ()


def made(version: ModelVersion) -> Outcome:
    """Give the outcome of an act that made a version."""
    return Outcome(status="done", version=version.digest, kind=version.kind)


def failed(reason: str) -> Outcome:
    """Give the outcome of an act that could not be done."""
    return Outcome(status="failed", reason=reason)


def after(
    state: LoopState,
    decision: Decision,
    outcome: Outcome,
    roles: Roles,
    newest: Evidence | None = None,
) -> LoopState:
    """Give the state that follows.

    `roles` are those from before the act; `newest` is the newest evidence about their champion.
    """
    changes: dict[str, object] = {"sequence": state.sequence + 1}
    kind = decision.action.kind
    if kind in ("retrain", "recalibrate"):
        changes |= _after_making(state, decision, outcome, roles)
    elif kind == "gate":
        changes |= _after_gate(decision, outcome)
    elif kind == "promote":
        changes |= _after_promotion(state, decision, outcome, roles, newest)
    elif kind == "refuse":
        changes |= _back_to_observing(decision) | _charged(state, decision, roles.champion is None)
    elif kind == "watch":
        changes |= {"watched_at": decision.at, "watch": outcome.watch}
    elif kind == "keep":
        changes |= _back_to_observing(decision)
    elif kind == "rollback":
        changes |= _after_rollback(decision, outcome)
    if kind in ("alert", "rollback") and decision.action.cause is not None:
        # Also when it failed: one answer an episode.
        end = newest.end if newest is not None else decision.at
        changes |= {"alerts": {**state.alerts, decision.action.cause: end}}
    return LoopState.model_validate(state.model_copy(update=changes).model_dump())


def _back_to_observing(decision: Decision) -> dict[str, object]:
    return {
        "phase": "observe",
        "since": decision.at,
        "candidate": None,
        "gate": None,
        "promoted_at": None,
        "watched_at": None,
        "watch": None,
    }


def _charged(state: LoopState, decision: Decision, is_first: bool) -> dict[str, object]:
    """Charge the budget for a first model that came to nothing; others were charged before."""
    return {"attempts": (*state.attempts, decision.at)} if is_first else {}


def _after_making(
    state: LoopState, decision: Decision, outcome: Outcome, roles: Roles
) -> dict[str, object]:
    changes: dict[str, object] = {}
    if decision.action.kind == "recalibrate":
        changes["last_recalibration_at"] = decision.at
    else:
        changes["last_training_at"] = decision.at
        # The first model is no retraining; it is charged only if it fails.
        if roles.champion is not None:
            changes["num_retrainings"] = state.num_retrainings + 1
        if roles.champion is not None or outcome.status == "failed":
            changes["attempts"] = (*state.attempts, decision.at)
    if outcome.status == "failed":
        return changes | _back_to_observing(decision)
    return changes | {
        "phase": "gate",
        "since": decision.at,
        "candidate": outcome.version,
        "gate": None,
    }


def _after_gate(decision: Decision, outcome: Outcome) -> dict[str, object]:
    # Without a report the next action is a refusal: the gate fails closed.
    return {"phase": "promote", "since": decision.at, "gate": outcome.gate}


def _after_promotion(
    state: LoopState,
    decision: Decision,
    outcome: Outcome,
    roles: Roles,
    newest: Evidence | None,
) -> dict[str, object]:
    if outcome.status == "failed":
        return _back_to_observing(decision) | _charged(state, decision, roles.champion is None)
    carried = 0
    if outcome.kind == "recalibrated" and newest is not None:
        carried = state.carried_labels + newest.num_new_labels
    changes = _back_to_observing(decision)
    changes["reference"] = state.gate.candidate if state.gate else None
    changes["carried_labels"] = carried
    # A first champion has nothing behind it to be compared with.
    if roles.champion is not None:
        changes |= {"phase": "watch", "promoted_at": decision.at}
    return changes


def _after_rollback(decision: Decision, outcome: Outcome) -> dict[str, object]:
    changes = _back_to_observing(decision)
    if outcome.status == "done":
        changes |= {"reference": None, "carried_labels": 0}
    return changes

"""Carry out what the policy decides: intent first, then the act, then the outcome.

Knows the ledger and ports to the outside; knows nothing of Ray, HTTP or models. Every act is named
by its step key and may be carried out again under it, so a steward killed at any instant resumes
where it was and does each thing once.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.contracts.records import Action, Decision, GateReport, ModelVersion, Roles, WatchReport
from app.contracts.shares import ONLY_CHAMPION
from app.ledger.database import Ledger
from app.ledger.decisions import complete_decision, open_decision, record_decision
from app.ledger.epochs import check_epoch, steward_name
from app.ledger.evidence import read_evidence
from app.ledger.journal import append
from app.ledger.states import current_state, read_state, write_state
from app.loop.policy import Facts, next_action
from app.loop.transitions import Outcome, after, failed, made
from app.registry.store import (
    change_roles,
    current_roles,
    find_version,
    read_roles,
    roles_history,
)
from app.sections import LoopConfig

logger = logging.getLogger(__name__)
# More acts than any way through the states takes; beyond it the policy goes in circles.
MAX_STEPS = 20


class StepFailed(RuntimeError):
    """An act that cannot succeed by trying again; the message is the recorded reason."""


class Stopping(RuntimeError):
    """The steward was told to stop; the act stays open for the next one."""


class Ports(Protocol):
    """The outside world of the loop.

    Every port is idempotent by the decision's key. StepFailed, and ValueError, mean that the act
    failed for good; any other error means that it may be tried again.
    """

    def train(self, decision: Decision) -> ModelVersion:
        """Train on what was known at `decision.at`; give the version of run `decision.key`."""

    def recalibrate(self, decision: Decision, champion: str) -> ModelVersion:
        """Fit a new calibrator around the champion and give the registered version."""

    def judge(self, decision: Decision, candidate: str, champion: str | None) -> GateReport:
        """Compare candidate and champion on rows that neither learned from."""

    def await_resident(self, decision: Decision, version: str, generation: int) -> Sequence[str]:
        """Wait until every live replica holds the version; name those that cannot, and why."""

    def await_switch(self, decision: Decision, generation: int) -> Sequence[str]:
        """Wait until every live replica follows the generation; name those that have not."""

    def alert(self, decision: Decision) -> None:
        """Tell people."""

    def compare_live(
        self, decision: Decision, champion: str, previous: str, since: datetime, final: bool
    ) -> WatchReport:
        """Compare the champion with the previous one on live rows since its promotion."""


@dataclass(frozen=True)
class Execution:
    """The loop of one model, as held by one steward."""

    ledger: Ledger
    model: str
    config: LoopConfig
    ports: Ports
    epoch: int

    def advance(
        self,
        at: datetime,
        facts: Callable[[datetime], Facts],
        on_step: Callable[[Decision], None] = lambda decision: None,
    ) -> Action:
        """Finish what is under way, then act until there is nothing to do; return that `observe`.

        Raises Fenced when a newer steward has taken over; an error of a port leaves the decision
        open.
        """
        for _ in range(MAX_STEPS):
            decision = open_decision(self.ledger, self.model)
            if decision is None:
                state = read_state(self.ledger, self.model)
                action = next_action(state, facts(at), self.config, at)
                if action.kind == "observe":
                    return action
                decision = self._begin(action, at)
            on_step(decision)
            self._finish(decision, self._act(decision))
        return Action(
            kind="observe", reasons=(f"{MAX_STEPS} acts at one time: the policy goes in circles",)
        )

    def abandon(self, decision: Decision, reason: str) -> None:
        """Complete an act that keeps failing for no reason of its own, so that the loop goes on."""
        roles = read_roles(self.ledger, self.model)
        switched = decision.action.kind in ("promote", "rollback") and (
            roles.decision == decision.key and roles.challenger is None
        )
        if switched:
            version = find_version(self.ledger, roles.champion or "")
            outcome = made(version).model_copy(update={"roles": roles, "problems": (reason,)})
        else:
            outcome = failed(reason)
        self._finish(decision, outcome)

    def _begin(self, action: Action, at: datetime) -> Decision:
        with self.ledger.transaction() as connection:
            check_epoch(connection, steward_name(self.model), self.epoch)
            # Read here: somebody may have taken the next number by hand.
            state = current_state(connection, self.model)
            decision = Decision(
                key=f"{self.model}-{state.sequence:04d}-{action.kind}",
                model=self.model,
                at=at,
                action=action,
                epoch=self.epoch,
            )
            record_decision(connection, decision, state.sequence)
            append(connection, self.model, "intent", decision.model_dump(mode="json"), at)
        return decision

    def _act(self, decision: Decision) -> Outcome:
        acts: dict[str, Callable[[Decision, Roles], Outcome]] = {
            "retrain": lambda decision, roles: made(self.ports.train(decision)),
            "recalibrate": self._recalibrate,
            "gate": self._judge,
            "promote": self._promote,
            "rollback": self._roll_back,
            "watch": self._compare_live,
            "alert": self._alert,
        }
        act = acts.get(decision.action.kind)
        if act is None:
            # To refuse and to keep change nothing but the loop's own state.
            return Outcome(status="done", version=decision.action.candidate)
        try:
            return act(decision, self._roles_before(decision))
        except (StepFailed, ValueError) as error:
            logger.warning("%s failed: %s", decision.key, error)
            return failed(str(error))

    def _finish(self, decision: Decision, outcome: Outcome) -> None:
        """Write outcome, next state and journal in one transaction."""
        before = self._roles_before(decision)
        evidence = read_evidence(
            self.ledger, self.model, until=decision.at, version=before.champion or "", limit=1
        )
        newest = evidence[-1] if evidence else None
        written = outcome.model_dump(mode="json", exclude_none=True)
        with self.ledger.transaction() as connection:
            check_epoch(connection, steward_name(self.model), self.epoch)
            state = current_state(connection, self.model)
            following = after(state, decision, outcome, before, newest)
            complete_decision(connection, decision.key, written)
            write_state(connection, following)
            entry = {"key": decision.key, "outcome": written, "phase": following.phase}
            append(connection, self.model, "outcome", entry, decision.at)
            roles = current_roles(connection, self.model)
            if roles.decision == decision.key and roles.challenger is not None:
                # The promotion failed half way: replicas may drop the candidate.
                dropped = _with_parts(roles, challenger=None)
                change_roles(
                    connection, roles.generation, dropped, decision.key, self.epoch, decision.at
                )

    def _recalibrate(self, decision: Decision, roles: Roles) -> Outcome:
        if roles.champion is None:
            raise StepFailed("there is no champion to recalibrate")
        return made(self.ports.recalibrate(decision, roles.champion))

    def _judge(self, decision: Decision, roles: Roles) -> Outcome:
        report = self.ports.judge(decision, self._candidate(decision), roles.champion)
        return Outcome(status="done", version=decision.action.candidate, gate=report)

    def _alert(self, decision: Decision, roles: Roles) -> Outcome:
        self.ports.alert(decision)
        return Outcome(status="done")

    def _compare_live(self, decision: Decision, roles: Roles) -> Outcome:
        state = read_state(self.ledger, self.model)
        if roles.champion is None or roles.previous is None or state.promoted_at is None:
            raise StepFailed("there is no previous champion to compare with")
        final = (decision.at - state.promoted_at).total_seconds() >= self.config.watch.days * 86400
        report = self.ports.compare_live(
            decision, roles.champion, roles.previous, state.promoted_at, final
        )
        return Outcome(status="done", watch=report)

    def _promote(self, decision: Decision, before: Roles) -> Outcome:
        """Make the candidate resident everywhere first, then switch one number."""
        candidate = self._candidate(decision)
        roles = read_roles(self.ledger, self.model)
        if roles.champion != candidate:
            if roles.challenger != candidate:
                roles = self._change(decision, roles, challenger=candidate)
            problems = self.ports.await_resident(decision, candidate, roles.generation)
            if problems:
                raise StepFailed("; ".join(problems))
            roles = self._change(
                decision, roles, champion=candidate, previous=before.champion, challenger=None
            )
        return self._switched(decision, roles)

    def _roll_back(self, decision: Decision, before: Roles) -> Outcome:
        if before.previous is None:
            raise StepFailed("there is no previous champion to go back to")
        roles = read_roles(self.ledger, self.model)
        if roles.decision != decision.key:
            roles = self._change(
                decision, roles, champion=before.previous, previous=None, challenger=None
            )
        return self._switched(decision, roles)

    def _switched(self, decision: Decision, roles: Roles) -> Outcome:
        late = self.ports.await_switch(decision, roles.generation)
        version = find_version(self.ledger, roles.champion or "")
        return made(version).model_copy(update={"roles": roles, "problems": tuple(late)})

    def _change(self, decision: Decision, roles: Roles, **changes: str | None) -> Roles:
        with self.ledger.transaction() as connection:
            return change_roles(
                connection,
                roles.generation,
                _with_parts(roles, **changes),
                decision.key,
                self.epoch,
                decision.at,
            )

    def _roles_before(self, decision: Decision) -> Roles:
        """Find the roles as they were when the decision was taken."""
        for _, roles in reversed(roles_history(self.ledger, self.model)):
            if roles.decision != decision.key:
                return roles
        return Roles(model=self.model, generation=0)

    def _candidate(self, decision: Decision) -> str:
        if decision.action.candidate is None:
            raise StepFailed(f"{decision.key} names no candidate")
        return decision.action.candidate


def _with_parts(roles: Roles, **changes: str | None) -> Roles:
    """Give the parts anew: shares were meant for those who played them, and end with that.

    A shadow stays, unless it is given another part.
    """
    shadow = None if roles.shadow in changes.values() else roles.shadow
    return roles.model_copy(update={"shares": ONLY_CHAMPION, "shadow": shadow, **changes})

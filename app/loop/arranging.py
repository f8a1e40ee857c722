"""Give versions a part beside the champion's by hand: a challenger with a share, a shadow.

Recorded as any decision is, so that it can be verified afterwards, and done under the epoch of
whoever runs the loop: it is neither fenced nor disturbed. The champion is the loop's alone. Knows
roles, decisions and the loop's state; knows nothing of replicas, Ray or HTTP.
"""

from datetime import datetime

from app.contracts.records import Action, Decision, Roles
from app.ledger.database import Ledger
from app.ledger.decisions import complete_decision, find_open, record_decision
from app.ledger.epochs import current_epoch, steward_name
from app.ledger.journal import append
from app.ledger.states import current_state, write_state
from app.registry.store import RolesRefused, change_roles, current_roles

# What the loop does with roles itself; a hand between would be undone, or undo it.
SWITCHING = ("promote", "rollback")


class LoopBusy(ValueError):
    """The loop is changing who answers at this moment."""


def arrange(ledger: Ledger, wanted: Roles, reasons: tuple[str, ...], at: datetime) -> Roles:
    """Change challenger, shadow and shares to what is wanted; all or nothing, in one transaction.

    `wanted.generation` is the one that was looked at; returns the next. Raises LoopBusy while the
    loop promotes or rolls back, RolesRefused for parts that cannot be, or for another champion, and
    RolesMoved when somebody changed roles since.
    """
    model, name = wanted.model, steward_name(wanted.model)
    with ledger.transaction() as connection:
        before = current_roles(connection, model)
        if wanted.champion != before.champion or wanted.previous != before.previous:
            raise RolesRefused(
                f"roles of {model}: the champion is changed by the loop alone, from "
                f"{before.champion} to {wanted.champion} was asked"
            )
        open_one = find_open(connection, model)
        if open_one is not None and open_one.action.kind in SWITCHING:
            raise LoopBusy(f"roles of {model}: {open_one.key} is under way; try again after it")
        state, epoch = current_state(connection, model), current_epoch(connection, name)
        # The number of the loop's own decision under way is taken.
        number = state.sequence + (open_one is not None)
        decision = Decision(
            key=f"{model}-{number:04d}-arrange",
            model=model,
            at=at,
            action=Action(kind="arrange", reasons=reasons, candidate=wanted.challenger),
            epoch=epoch,
        )
        record_decision(connection, decision, number)
        append(connection, model, "intent", decision.model_dump(mode="json"), at)
        roles = change_roles(connection, wanted.generation, wanted, decision.key, epoch, at)
        outcome = {"status": "done", "roles": roles.model_dump(mode="json")}
        complete_decision(connection, decision.key, outcome)
        write_state(connection, state.model_copy(update={"sequence": state.sequence + 1}))
        entry = {"key": decision.key, "outcome": outcome, "phase": state.phase}
        append(connection, model, "outcome", entry, at)
    return roles

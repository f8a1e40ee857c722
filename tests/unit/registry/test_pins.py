from datetime import timedelta
from pathlib import Path

from app.contracts.records import Action, Decision, Roles
from app.ledger.database import open_ledger
from app.ledger.decisions import record_decision
from app.ledger.epochs import steward_name, take_epoch
from app.registry.pins import live_snapshots
from app.registry.store import change_roles, register_version
from tests.unit.loop.world import START, version

DAY = timedelta(days=1)


def test_snapshots_of_versions_with_a_role_or_that_are_new_are_pinned(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    made = {}
    for number, run in enumerate(("champion", "previous", "retired", "candidate")):
        one = version(run)
        dataset = one.dataset.model_copy(update={"events_version": number})
        age = DAY if run == "candidate" else 100 * DAY
        at = {"dataset": dataset, "created_at": START - age}
        made[run] = register_version(ledger, one.model_copy(update=at))
    action = Action(kind="promote", reasons=("it is better",), candidate=made["champion"].digest)
    take_epoch(ledger, steward_name("flights"))
    new = Roles(
        model="flights",
        generation=0,
        champion=made["champion"].digest,
        previous=made["previous"].digest,
    )
    with ledger.transaction() as connection:
        decision = Decision(key="k", model="flights", at=START, action=action, epoch=1)
        record_decision(connection, decision, 0)
        change_roles(connection, 0, new, "k", 1, START)

    def pinned(days: float) -> list[int]:
        found = live_snapshots(ledger, "flights", START - days * DAY)
        return sorted(snapshot.events_version for snapshot in found)

    assert pinned(30) == [0, 1, 3]
    assert pinned(0) == [0, 1]
    assert pinned(365) == [0, 1, 2, 3]

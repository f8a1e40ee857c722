import pytest

from app.contracts.records import Action, Decision, Roles
from app.contracts.shares import Ramp, Shares
from app.ledger.database import open_ledger
from app.ledger.decisions import DecisionMissing, record_decision
from app.ledger.epochs import Fenced, steward_name, take_epoch
from app.ledger.journal import entries
from app.registry.replicas import acknowledge, live_replicas, retire_replica
from app.registry.store import (
    RolesMoved,
    RolesRefused,
    VersionConflict,
    VersionUnknown,
    change_roles,
    find_version,
    list_versions,
    read_roles,
    register_version,
    roles_history,
    version_of_run,
)
from tests.unit.loop.world import START, version

A, B = version("run-a"), version("run-b")


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    register_version(opened, A)
    action = Action(kind="promote", reasons=("it is better",), candidate=A.digest)
    decision = Decision(key="k", model="flights", at=START, action=action, epoch=1)
    with opened.transaction() as connection:
        record_decision(connection, decision, 0)
    assert take_epoch(opened, steward_name("flights")) == 1
    return opened


def change(ledger, expected: int = 0, key: str = "k", epoch: int = 1, **parts) -> Roles:
    new = Roles(model="flights", generation=0, **parts)
    with ledger.transaction() as connection:
        return change_roles(connection, expected, new, key, epoch, START)


def test_a_version_is_registered_once(ledger):
    assert register_version(ledger, A) == A
    assert list_versions(ledger, "flights") == [A]
    assert find_version(ledger, A.digest) == version_of_run(ledger, "flights", "run-a") == A
    assert [entry.kind for entry in entries(ledger, "flights")] == ["registered"]


def test_a_run_cannot_register_two_different_versions(ledger):
    with pytest.raises(VersionConflict, match="run-a"):
        register_version(ledger, A.model_copy(update={"digest": B.digest}))


def test_an_unknown_version_is_said_so(ledger):
    assert version_of_run(ledger, "flights", "run-b") is None
    with pytest.raises(VersionUnknown, match="register it"):
        find_version(ledger, B.digest)


def test_roles_begin_empty_and_count_their_generations(ledger):
    assert read_roles(ledger, "flights") == Roles(model="flights", generation=0)
    assert change(ledger, champion=A.digest).generation == 1
    register_version(ledger, B)
    change(ledger, expected=1, champion=B.digest, previous=A.digest)
    roles = read_roles(ledger, "flights")
    assert (roles.generation, roles.champion, roles.decision) == (2, B.digest, "k")
    history = [roles.champion for _, roles in roles_history(ledger, "flights")]
    assert history == [A.digest, B.digest]


def test_shares_are_kept_with_their_generation_and_only_with_it(ledger):
    register_version(ledger, B)
    shares = Shares(
        challenger=0.5,
        ramp=Ramp(from_share=0.1, began_at=START, seconds=600),
        holdout=0.1,
        exploration=0.05,
    )
    contest = change(ledger, champion=A.digest, challenger=B.digest, shares=shares)
    assert read_roles(ledger, "flights") == contest
    change(ledger, expected=1, champion=B.digest)

    history = [roles.shares for _, roles in roles_history(ledger, "flights")]

    assert history == [shares, Shares()]
    journalled = [e.payload for e in entries(ledger, "flights") if e.kind == "roles"]
    assert ["shares" in payload for payload in journalled] == [True, False]


def test_a_shadow_is_kept_with_its_generation(ledger):
    register_version(ledger, B)
    change(ledger, champion=A.digest, shadow=B.digest)

    assert read_roles(ledger, "flights").shadow == B.digest
    change(ledger, expected=1, champion=A.digest)
    assert read_roles(ledger, "flights").shadow is None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"expected": 7, "champion": A.digest}, RolesMoved),
        ({"key": "not recorded", "champion": A.digest}, DecisionMissing),
        ({"epoch": 2, "champion": A.digest}, Fenced),
        ({"champion": B.digest}, RolesRefused),
        ({"champion": A.digest, "previous": A.digest}, RolesRefused),
        ({"champion": A.digest, "shadow": A.digest}, RolesRefused),
        ({"champion": A.digest, "shadow": B.digest}, RolesRefused),
        ({"champion": A.digest, "shares": Shares(challenger=0.5)}, RolesRefused),
        ({"challenger": A.digest, "shares": Shares(holdout=0.5)}, RolesRefused),
    ],
)
def test_roles_that_may_not_be_change_nothing(ledger, changes, error):
    with pytest.raises(error):
        change(ledger, **changes)
    assert read_roles(ledger, "flights").generation == 0
    assert "roles" not in [entry.kind for entry in entries(ledger, "flights")]


def test_replicas_live_while_their_heartbeat_is_young(ledger):
    acknowledge(ledger, "flights", "r1", 3, ["a", "b"], wall=100.0)
    acknowledge(ledger, "flights", "r2", 3, ["a"], wall=105.0, problems={"b": "altered"})
    assert [item.replica for item in live_replicas(ledger, "flights", 109.0)] == ["r1", "r2"]
    late = live_replicas(ledger, "flights", 112.0)
    assert [(item.replica, item.resident, item.problems) for item in late] == [
        ("r2", ("a",), {"b": "altered"})
    ]
    acknowledge(ledger, "flights", "r1", 4, ["b"], wall=112.0)
    assert live_replicas(ledger, "flights", 112.0)[0].generation == 4
    retire_replica(ledger, "flights", "r1")
    assert [item.replica for item in live_replicas(ledger, "flights", 112.0)] == ["r2"]

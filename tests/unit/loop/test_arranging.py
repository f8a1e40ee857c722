"""Parts given by hand are decisions like any other, and the loop goes on around them."""

from datetime import timedelta
from pathlib import Path

import pytest

from app.contracts.records import Decision, ModelVersion, Roles
from app.contracts.shares import Shares
from app.ledger.journal import verify
from app.loop.arranging import LoopBusy, arrange
from app.registry.store import RolesMoved, RolesRefused, read_roles, register_version
from tests.unit.loop.world import DRIFTED, START, Operation, version

AT = START + timedelta(days=1)
OTHER = version("by-hand")


def give_share(loop: Operation) -> Roles:
    before = read_roles(loop.ledger, "flights")
    register_version(loop.ledger, OTHER)
    shares = Shares(challenger=0.1, holdout=0.05)
    wanted = before.model_copy(update={"challenger": OTHER.digest, "shares": shares})
    return arrange(loop.ledger, wanted, ("a tenth",), AT)


def test_a_share_is_given_by_a_decision_that_can_be_verified(tmp_path: Path) -> None:
    loop = Operation(tmp_path)
    loop.week()
    champion = read_roles(loop.ledger, "flights")

    roles = give_share(loop)

    assert roles == read_roles(loop.ledger, "flights")
    assert (roles.champion, roles.challenger) == (champion.champion, OTHER.digest)
    assert roles.generation == champion.generation + 1
    last = loop.decisions[-1]
    assert (last.key, last.action.kind) == (roles.decision, "arrange")
    assert last.outcome is not None
    assert last.outcome["status"] == "done"
    assert verify(loop.ledger) == []


def test_the_loop_goes_on_and_ends_the_share_with_its_own_promotion(tmp_path: Path) -> None:
    loop = Operation(tmp_path)
    loop.week()
    give_share(loop)
    loop.week(**DRIFTED)

    assert loop.week(**DRIFTED) == ["retrain", "gate", "promote"]

    roles = read_roles(loop.ledger, "flights")
    assert roles.champion == version("flights-0004-retrain").digest
    assert (roles.challenger, roles.shares) == (None, Shares())
    assert verify(loop.ledger) == []


def test_while_the_loop_trains_a_hand_may_still_arrange(tmp_path: Path) -> None:
    loop = Operation(tmp_path)
    loop.week()
    train = loop.world.train

    def interrupted(decision: Decision) -> ModelVersion:
        give_share(loop)
        return train(decision)

    loop.world.train = interrupted  # type: ignore[method-assign]
    loop.week(**DRIFTED)

    assert loop.week(**DRIFTED) == ["retrain", "arrange", "gate", "promote"]
    numbers = [int(each.key.split("-")[1]) for each in loop.decisions]
    assert numbers == list(range(len(numbers)))


def test_while_the_loop_promotes_nobody_else_changes_roles(tmp_path: Path) -> None:
    loop = Operation(tmp_path)

    def interrupted(decision: Decision, version: str, generation: int) -> list[str]:
        with pytest.raises(LoopBusy, match="flights-0002-promote is under way"):
            give_share(loop)
        return []

    loop.world.await_resident = interrupted  # type: ignore[method-assign]
    assert loop.week() == ["retrain", "gate", "promote"]


def test_what_cannot_be_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    loop = Operation(tmp_path)
    loop.week()
    now, number = read_roles(loop.ledger, "flights"), len(loop.decisions)
    register_version(loop.ledger, OTHER)

    for wrong, error, why in [
        ({"champion": OTHER.digest}, RolesRefused, "by the loop alone"),
        ({"challenger": now.champion}, RolesRefused, "two parts"),
        ({"shares": Shares(challenger=0.5)}, RolesRefused, "need a champion and a challenger"),
        ({"shadow": "f" * 64}, RolesRefused, "not registered"),
        ({"shadow": OTHER.digest, "generation": 1}, RolesMoved, "expected generation 1"),
    ]:
        with pytest.raises(error, match=why):
            arrange(loop.ledger, now.model_copy(update=wrong), ("no",), AT)

    assert read_roles(loop.ledger, "flights") == now
    assert len(loop.decisions) == number

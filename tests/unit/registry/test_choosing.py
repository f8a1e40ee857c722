"""Which version is meant by a digest's beginning, or by nothing."""

import pytest

from app.ledger.database import Ledger, open_ledger
from app.registry.choosing import choose_version
from app.registry.store import VersionUnknown, register_version
from tests.serving_world import give_roles
from tests.unit.loop.world import version

A, B = version("run-a"), version("run-b")


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    for each in (A, B):
        register_version(opened, each)
    return opened


def test_without_a_champion_the_latest_is_taken_only_where_that_is_meant(ledger):
    assert choose_version(ledger, "flights", or_latest=True) == B
    with pytest.raises(VersionUnknown, match=f"the latest is {B.digest[:12]}"):
        choose_version(ledger, "flights")


def test_the_champion_comes_before_the_latest(ledger):
    give_roles(ledger, "flights", A.digest)
    assert choose_version(ledger, "flights") == A
    assert choose_version(ledger, "flights", or_latest=True) == A
    assert choose_version(ledger, "flights", B.digest) == B


def test_what_no_version_or_another_models_is_meant_by_is_refused(ledger):
    with pytest.raises(VersionUnknown, match="none of that digest"):
        choose_version(ledger, "flights", "f" * 64)
    with pytest.raises(VersionUnknown, match=r"run jobs\.train first"):
        choose_version(ledger, "orders", A.digest)

"""Budgets of several replicas over one real ledger: shared, remembered, and good without it."""

import contextlib
import logging
import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from app.config import Config
from app.contracts.access import Limits
from app.ledger.database import Ledger, open_ledger
from app.registry.replicas import acknowledge, retire_replica
from app.security.access import Principal
from app.security.budgets import DAY_SECONDS, Budgets, BudgetSpent
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key
from app.serving.accounting import EVERY_SECONDS, Accounting, open_budgets
from app.serving.replica import Replica

NOON = 19_700 * DAY_SECONDS + DAY_SECONDS / 2
SHOP = Principal(name="shop", roles=("predict",))
LIMITS = Limits(rows_per_day=100)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


def open_replica(ledger: Ledger, name: str, clock: Clock) -> tuple[Budgets, Accounting]:
    """Open a replica's budgets as the replica itself does: it says that it lives, then counts."""
    acknowledge(ledger, "flights", name, 1, [], clock.now)
    budgets = Budgets(LIMITS)
    accounting = Accounting(ledger, "flights", name, budgets, clock)
    accounting.tick()
    return budgets, accounting


def most(budgets: Budgets, now: float) -> int:
    """Ask row by row until no more is given."""
    for asked in range(1000):
        try:
            budgets.charge(SHOP, 1, now)
        except BudgetSpent:
            return asked
    raise AssertionError("there was no end")


def test_a_restart_does_not_forget_the_day(ledger: Ledger) -> None:
    clock = Clock()
    budgets, accounting = open_replica(ledger, "first", clock)
    budgets.charge(SHOP, 70, clock.now)
    clock.now += EVERY_SECONDS
    accounting.tick()
    retire_replica(ledger, "flights", "first")

    again, _ = open_replica(ledger, "second", clock)

    assert most(again, clock.now) == 30


def test_replicas_that_live_share_what_is_left(ledger: Ledger) -> None:
    clock = Clock()
    one, first = open_replica(ledger, "one", clock)
    two, second = open_replica(ledger, "two", clock)
    one.charge(SHOP, 20, clock.now)
    for _ in range(2):
        clock.now += EVERY_SECONDS
        first.tick()
        second.tick()

    assert (most(one, clock.now), most(two, clock.now)) == (40, 40)
    clock.now += 60
    acknowledge(ledger, "flights", "one", 1, [], clock.now)
    first.tick()
    assert most(one, clock.now) == 40, "what a silent replica did not say is not known"


def test_a_new_day_begins_with_nothing_used_and_yesterday_is_not_kept(ledger: Ledger) -> None:
    clock = Clock()
    budgets, accounting = open_replica(ledger, "one", clock)
    budgets.charge(SHOP, 100, clock.now)
    clock.now += EVERY_SECONDS
    accounting.tick()
    clock.now += DAY_SECONDS
    accounting.tick()

    assert most(budgets, clock.now) == 100
    clock.now += EVERY_SECONDS
    accounting.tick()
    with ledger.reading() as connection:
        rows = connection.execute(text("SELECT caller, num_rows FROM usage")).all()
    assert [tuple(row) for row in rows] == [("key:shop", 100)]


def test_with_the_ledger_away_a_replica_goes_on_with_its_share_and_says_so_once(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    budgets, accounting = open_replica(ledger, "one", clock)
    open_replica(ledger, "two", clock)
    clock.now += EVERY_SECONDS
    accounting.tick()
    with ledger.transaction() as connection:
        connection.execute(text("ALTER TABLE usage RENAME TO away"))

    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clock.now += EVERY_SECONDS
            budgets.charge(SHOP, 1, clock.now)
            accounting.tick()
    assert most(budgets, clock.now) == 47
    assert len(caplog.records) == 1
    assert most(budgets, clock.now + DAY_SECONDS) == 50

    with ledger.transaction() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO usage"))
    clock.now += EVERY_SECONDS
    accounting.tick()
    with ledger.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM usage")).scalar() == 0


def test_nothing_is_written_while_nothing_is_counted(ledger: Ledger, tmp_path: Path) -> None:
    clock = Clock()
    budgets, accounting = open_replica(ledger, "one", clock)

    def version(watching: sqlite3.Connection) -> int:
        number: int = watching.execute("PRAGMA data_version").fetchone()[0]
        return number

    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as watching:
        before = version(watching)
        for _ in range(5):
            clock.now += EVERY_SECONDS
            accounting.tick()
        assert version(watching) == before
        budgets.charge(SHOP, 1, clock.now)
        clock.now += EVERY_SECONDS
        accounting.tick()
        assert version(watching) > before


def test_the_ledger_holds_no_subject_of_a_token(flights: Config) -> None:
    serving = flights.serving.model_copy(update={"limits": LIMITS})
    config = flights.model_copy(update={"serving": serving})
    replica = Replica(config, wall=time.time, steady=time.monotonic)
    replica.start()
    person = Principal(name="ada@example.com", roles=("predict",), kind="token")
    replica.budgets.charge(person, 5, time.time())
    replica.budgets.charge(SHOP, 7, time.time())
    ledger, deadline = open_ledger(config.ledger_url), time.monotonic() + 20
    counted: dict[str, int] = {}
    while len(counted) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
        with ledger.reading() as connection:
            rows = connection.execute(text("SELECT caller, num_rows FROM usage")).all()
            counted = dict(map(tuple, rows))
    replica.stop()
    ledger.close()

    assert sorted(counted.values()) == [5, 7]
    assert counted["key:shop"] == 7
    files = [file for file in config.workspace.rglob("*") if file.is_file()]
    assert [file for file in files if b"ada@example.com" in file.read_bytes()] == []
    again = open_budgets(config)
    again.charge(person, 1, time.time())
    assert set(again.used(time.time())) < set(counted), "a restart finds the same pseudonym"
    in_tables = Pseudonymiser(pseudonym_key(config)).one("ada@example.com")
    assert not any(in_tables in caller for caller in counted), "erasing her is not held up by it"

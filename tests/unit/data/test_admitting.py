"""Committing deliveries: each once, whatever was cut off before, with what is remembered of it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from pydantic import SecretBytes

from app.contracts.rows import Contract
from app.data.admitting import Plan, commit_delivery, plan_of, position_of
from app.data.deliveries import Delivery, Position, done_mark, first_mark
from app.data.intake import FOREVER, judge_block, mark_of
from app.data.pieces import Rows
from app.data.seen import hash_ids
from app.data.settling import Ids, Settled, settle_rows
from app.data.stagedfiles import StagedFiles
from app.data.staging import stage
from app.data.storage import Found
from app.data.tables import Tables
from app.security.privacy import Pseudonymiser

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
Settle = Callable[[Plan, Delivery, Sequence[dict[str, object]]], Settled]
SECRET = Pseudonymiser(SecretBytes(b"k" * 32))
NOON = datetime(2024, 4, 1, 12, tzinfo=UTC)
MARCH_4 = mark_of(datetime(2024, 3, 4, tzinfo=UTC))


def a_file(digest: str, name: str = "a.csv") -> Delivery:
    return Delivery(digest, name, file=Found(name, 1, 1))


@pytest.fixture
def settle(files: StagedFiles, parcels: Contract, parcel_table: MakeTable) -> Settle:
    """A function that settles the rows of a delivery that a plan takes."""

    def make(plan: Plan, delivery: Delivery, rows: Sequence[dict[str, object]]) -> Settled:
        positions = np.arange(len(rows))
        block = Rows(parcel_table(list(rows)), positions, [], delivery.digest).with_places()
        judged = judge_block(block, parcels, plan.window, SECRET)
        hashes = hash_ids(judged.accepted["parcel"])
        staged = stage(judged, [hashes], delivery.digest, block, files)
        return settle_rows(delivery.digest, [staged], parcels, {"parcel": Ids()}, SECRET, files)

    return make


def held(tables: Tables) -> tuple[list[object], list[object]]:
    return (
        sorted(tables.read("events")["parcel"].to_pylist()),
        sorted(tables.read("quarantine")["position"].to_pylist()),
    )


def test_a_delivery_is_committed_once(tables: Tables, parcel: Make, settle: Settle) -> None:
    delivery = a_file("d1")
    rows = [parcel(0), parcel(1, weight=-1)]
    for _ in range(2):
        # The second looked before the first committed.
        plan = Plan("events", (delivery,), plan_of(tables, "events", [], FOREVER).window, {}, ())
        commit_delivery(tables, plan, delivery, settle(plan, delivery, rows), NOON, last=True)
    assert held(tables) == (["P0"], [1])
    assert plan_of(tables, "events", [delivery], FOREVER).pending == ()


@pytest.mark.parametrize("until", [MARCH_4, FOREVER])
def test_what_is_cut_off_after_the_quarantine_is_completed(
    tables: Tables,
    parcel: Make,
    settle: Settle,
    until: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Promised on 1, 2, 3, 4 and 5 March, with half an hour's lead, and once nobody knows when.
    rows = [parcel(n, weight=-1 if n % 2 else 2) for n in range(5)]
    rows.append(parcel(5, promised="never"))
    delivery = a_file("d1")
    plan = plan_of(tables, "events", [delivery], until)
    settled = settle(plan, delivery, rows)
    with monkeypatch.context() as patch:
        patch.setattr(Settled, "accepted", cut_off)
        with pytest.raises(OSError, match="the disk is full"):
            commit_delivery(tables, plan, delivery, settled, NOON, last=True)
    assert held(tables)[0] == []
    for moment in (until, FOREVER):
        plan = plan_of(tables, "events", [delivery], moment)
        for each in plan.pending:
            commit_delivery(tables, plan, each, settle(plan, each, rows), NOON, last=True)
    assert held(tables) == (["P0", "P2", "P4"], [1, 3, 5])


def cut_off(_settled: Settled) -> None:
    raise OSError("the disk is full")


def test_a_file_of_a_known_name_with_other_bytes_is_rewritten(
    tables: Tables, parcel: Make, settle: Settle
) -> None:
    for digest, known in (("d1", False), ("d2", True), ("d3", True)):
        plan = plan_of(tables, "events", [a_file(digest), a_file("other", "b.csv")], FOREVER)
        first, second = plan.pending
        assert (plan.rewritten(first), plan.rewritten(second)) == (known, False)
        commit_delivery(tables, plan, first, settle(plan, first, [parcel(0)]), NOON, last=False)
    assert tables.transaction("events", a_file("d1").place) == 3


def test_a_file_taken_in_two_windows_is_not_rewritten(
    tables: Tables, parcel: Make, settle: Settle
) -> None:
    rows = [parcel(0), parcel(9)]
    for until in (MARCH_4, FOREVER):
        plan = plan_of(tables, "events", [a_file("d1")], until)
        (delivery,) = plan.pending
        assert not plan.rewritten(delivery)
        commit_delivery(tables, plan, delivery, settle(plan, delivery, rows), NOON, last=True)
    assert held(tables)[0] == ["P0", "P9"]


def test_a_position_is_committed_with_the_last_rows_and_begun_with_the_quarantine(
    tables: Tables, parcel: Make, settle: Settle
) -> None:
    assert position_of(tables, "events", "k") == Position(None, None, None)
    deliveries = [Delivery(f"d{n}", "t", marks=((first_mark("k"), 7),)) for n in range(2)]
    reached = ((done_mark("k"), 9),)
    plan = plan_of(tables, "events", deliveries, FOREVER, reached)
    for number, delivery in enumerate(deliveries):
        rows = [parcel(number), parcel(number + 10, weight=-1)]
        last = number == 1
        commit_delivery(tables, plan, delivery, settle(plan, delivery, rows), NOON, last=last)
        done = 9 if last else None
        assert position_of(tables, "events", "k") == Position(7, done, done)


def test_an_end_in_time_is_no_position(tables: Tables, parcel: Make, settle: Settle) -> None:
    delivery = Delivery("d1", "t")
    plan = plan_of(tables, "events", [delivery], MARCH_4, ((done_mark("k"), 9),))
    commit_delivery(tables, plan, delivery, settle(plan, delivery, [parcel(0)]), NOON, last=True)
    assert position_of(tables, "events", "k").done is None

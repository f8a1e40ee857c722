"""Epochs, decisions, evidence, progress, states: what is written is what is read, once."""

from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from app.contracts.records import Action, Decision
from app.ledger.database import open_ledger
from app.ledger.decisions import (
    DecisionMissing,
    complete_decision,
    open_decision,
    read_decisions,
    record_decision,
)
from app.ledger.epochs import Fenced, check_epoch, monitor_name, take_epoch
from app.ledger.evidence import read_evidence, read_fold, record_fold
from app.ledger.progress import read_progress
from app.ledger.states import read_state, write_state
from tests.unit.loop.world import START, evidence


@pytest.fixture
def ledger(tmp_path):
    return open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


def decision(key: str) -> Decision:
    action = Action(kind="retrain", reasons=("because",), cause="concept_drift")
    return Decision(key=key, model="flights", at=START, action=action, epoch=1)


def test_only_the_newest_epoch_passes(ledger):
    assert (take_epoch(ledger, "a"), take_epoch(ledger, "a"), take_epoch(ledger, "b")) == (1, 2, 1)
    with ledger.transaction() as connection:
        check_epoch(connection, "a", 2)
        check_epoch(connection, "b", 1)
        with pytest.raises(Fenced, match="epoch 1 was replaced by epoch 2"):
            check_epoch(connection, "a", 1)
        with pytest.raises(Fenced):
            check_epoch(connection, "never taken", 1)


def test_a_decision_is_open_until_its_one_outcome(ledger):
    with ledger.transaction() as connection:
        record_decision(connection, decision("k1"), 0)
    assert open_decision(ledger, "flights") == decision("k1")
    with ledger.transaction() as connection:
        complete_decision(connection, "k1", {"status": "done"})
    assert open_decision(ledger, "flights") is None
    assert read_decisions(ledger, "flights")[0].outcome == {"status": "done"}
    with pytest.raises(DecisionMissing), ledger.transaction() as connection:
        complete_decision(connection, "k1", {"status": "failed"})


def test_two_decisions_cannot_be_the_same_step(ledger):
    with ledger.transaction() as connection:
        record_decision(connection, decision("k1"), 0)
    with pytest.raises(IntegrityError), ledger.transaction() as connection:
        record_decision(connection, decision("k2"), 0)


def test_a_fold_is_written_whole_or_not_at_all_and_evidence_once(ledger):
    first = [evidence(day=7), evidence(day=14)]
    assert record_fold(ledger, "flights", first, {"labels": 3}, b"state", START, {"n": 1}) == 2
    again = [evidence(day=14, num_known=1), evidence(day=21)]
    assert record_fold(ledger, "flights", again, {"labels": 4}, b"later", START, {"n": 2}) == 1
    assert [item.num_known for item in read_evidence(ledger, "flights")] == [24000] * 3
    fold = read_fold(ledger, "flights")
    assert (fold.state, fold.offsets, fold.watermark) == (b"later", {"labels": 4}, START)
    assert read_progress(ledger, "flights")["monitor"].detail == {"n": 2}


def test_a_replaced_monitor_writes_nothing(ledger):
    old = take_epoch(ledger, monitor_name("flights"))
    take_epoch(ledger, monitor_name("flights"))
    with pytest.raises(Fenced):
        record_fold(ledger, "flights", [evidence()], {}, b"", START, {}, epoch=old)
    assert read_evidence(ledger, "flights") == []
    assert read_fold(ledger, "flights") is None


def test_evidence_is_read_as_of_a_time_and_newest_last(ledger):
    found = [evidence(day=day) for day in (21, 7, 14)] + [evidence("other", 14)]
    record_fold(ledger, "flights", found, {}, b"", START, {})
    until = read_evidence(ledger, "flights", until=START + timedelta(days=14), version="v")
    assert [item.end for item in until] == [START + timedelta(days=day) for day in (7, 14)]
    assert read_evidence(ledger, "flights", limit=1) == [evidence(day=21)]


def test_a_loop_that_never_acted_stands_at_the_start(ledger):
    state = read_state(ledger, "flights")
    assert (state.phase, state.sequence) == ("observe", 0)
    changed = state.model_copy(update={"sequence": 4, "alerts": {"broken_data": START}})
    with ledger.transaction() as connection:
        write_state(connection, changed)
    assert read_state(ledger, "flights") == changed

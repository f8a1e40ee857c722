"""Decisions become episodes, reigns and counts."""

from app.console.episodes import count_acts, episodes, reigns
from tests.unit.console.reports import FIRST, SECOND, Journal, decisions


def test_a_gate_and_its_verdict_belong_to_the_training_before_them():
    endings = [(one.ending, len(one.steps)) for one in episodes(decisions())]

    assert endings == [
        ("promoted", 3),
        ("promoted", 3),
        ("rolled back", 3),
        ("alert", 1),
        ("refused", 3),
    ]


def test_an_alert_amid_a_watch_does_not_split_it():
    watch = episodes(decisions())[2]

    assert [step.action.kind for step in watch.steps] == ["watch", "watch", "rollback"]


def test_only_the_first_promotion_is_the_first_model():
    assert [one.first_model for one in episodes(decisions())] == [True, False, False, False, False]


def test_a_first_training_that_the_gate_refuses_is_not_the_first_model():
    journal = Journal()
    journal.make(4, 1, FIRST, promoted=False)
    journal.make(4, 2, SECOND, promoted=True)

    assert [one.first_model for one in episodes(journal.decisions)] == [False, True]


def test_the_first_model_is_not_counted_as_a_retraining_or_promotion():
    counts = count_acts(decisions())

    assert counts.model_dump() == {
        "retrainings": 2,
        "recalibrations": 0,
        "promotions": 1,
        "refusals": 1,
        "rollbacks": 1,
        "alerts": 1,
    }


def test_a_failed_training_is_no_retraining_and_says_so():
    journal = Journal()
    journal.make(4, 1, FIRST, promoted=True)
    journal.act("retrain", 5, 1, status="failed", reason="no memory")

    assert count_acts(journal.decisions).retrainings == 0
    assert episodes(journal.decisions)[-1].ending == "failed"


def test_a_decision_under_way_is_told_as_such():
    last = decisions()[0].model_copy(update={"outcome": None})

    assert [one.ending for one in episodes([last])] == ["under way"]


def test_observing_is_no_episode():
    journal = Journal()
    journal.act("observe", 4, 1)

    assert episodes(journal.decisions) == []


def test_reigns_follow_the_roles_and_a_roll_back_returns_to_the_number_of_before():
    told = [(reign.number, reign.version, reign.end is None) for reign in reigns(decisions())]

    assert told == [(1, FIRST, False), (2, SECOND, False), (1, FIRST, True)]


def test_a_promotion_that_failed_begins_no_reign():
    journal = Journal()
    journal.make(4, 1, FIRST, promoted=True)
    journal.act("promote", 5, 1, candidate=SECOND, status="failed", reason="not resident")

    assert [reign.version for reign in reigns(journal.decisions)] == [FIRST]

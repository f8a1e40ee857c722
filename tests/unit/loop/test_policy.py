from datetime import timedelta

import pytest

from app.contracts.records import Action, Evidence, LoopState, Roles, WatchReport
from app.loop.policy import Facts, next_action
from app.sections import LoopConfig
from tests.unit.loop.world import START, drift, evaluation, evidence, gate_report

CONFIG = LoopConfig()
ROLES = Roles(model="flights", generation=2, champion="v", decision="d")
WITH_PREVIOUS = ROLES.model_copy(update={"previous": "u"})
DRIFTED = {"performance": evaluation(0.65)}
SHIFTED = {"columns": (drift("temperature", 3.1), drift("pressure", 0.9))}
WRONG_PRIOR = {"performance": evaluation(positive=0.30)}
NULLS = {"columns": (drift("temperature", null_share=0.9),)}


def state(**changes: object) -> LoopState:
    return LoopState.model_validate({"model": "flights", "sequence": 3, **changes})


def decide(
    *found: Evidence,
    now_day: float = 60,
    roles: Roles = ROLES,
    num_labels: int = 0,
    num_trained_on: int = 80000,
    **changes: object,
) -> Action:
    facts = Facts(found, roles, num_labels, num_trained_on)
    return next_action(state(**changes), facts, CONFIG, START + timedelta(days=now_day))


def both_weeks(**changes: object) -> tuple[Evidence, Evidence]:
    return evidence(day=53, **changes), evidence(day=60, **changes)


def words(action: Action) -> str:
    return "; ".join(action.reasons)


def day(number: float) -> object:
    return START + timedelta(days=number)


def test_without_champion_enough_labels_start_a_first_training():
    nobody = Roles(model="flights", generation=0)
    assert decide(roles=nobody, num_labels=19999).kind == "observe"
    assert "20,000 needed" in words(decide(roles=nobody, num_labels=19999))
    assert decide(roles=nobody, num_labels=20000).kind == "retrain"


def test_a_first_model_that_failed_is_tried_again_after_a_day_within_the_budget():
    nobody = Roles(model="flights", generation=0)
    tried = {"last_training_at": day(59.5), "attempts": (day(59.5),)}
    assert decide(roles=nobody, num_labels=80000, **tried).kind == "observe"
    assert decide(roles=nobody, num_labels=80000, now_day=61, **tried).kind == "retrain"
    spent = {"last_training_at": day(4), "attempts": tuple(day(n) for n in range(4))}
    assert decide(roles=nobody, num_labels=80000, **spent).kind == "observe"


def test_persistent_concept_drift_retrains_and_says_why():
    action = decide(*both_weeks(**DRIFTED))
    assert (action.kind, action.cause) == ("retrain", "concept_drift")
    assert "AUC 0.650" in words(action)
    assert "25,000 new labels since training, 31% of the training set" in words(action)


def test_drift_seen_once_does_not_retrain():
    action = decide(evidence(day=53), evidence(day=60, **DRIFTED))
    assert action.kind == "observe"
    assert "seen 1 times in a row, 2 are needed" in words(action)


def test_drift_of_an_older_version_says_nothing_about_the_champion():
    older = [evidence("u", 53, **DRIFTED), evidence("u", 60, **DRIFTED)]
    assert decide(*older).kind == "observe"


@pytest.mark.parametrize(
    ("changes", "state_changes", "waiting"),
    [
        ({"num_new_labels": 19999}, {}, "waiting: 19,999 new labels"),
        ({}, {"last_training_at": day(40)}, "waiting: last training 20 days ago (28 needed)"),
        (
            {},
            {"attempts": tuple(day(-n) for n in (1, 50, 90, 200))},
            "waiting: 4 of 4 trainings spent in 366 days",
        ),
    ],
)
def test_each_limit_of_the_governor_holds_a_training_back(changes, state_changes, waiting):
    action = decide(*both_weeks(**DRIFTED, **changes), **state_changes)
    assert action.kind == "observe"
    assert waiting in words(action)


def test_the_budget_recovers_when_trainings_are_long_ago():
    attempts = tuple(day(-n) for n in (1, 50, 90, 310))
    assert decide(*both_weeks(**DRIFTED), attempts=attempts).kind == "retrain"


def test_covariate_shift_retrains_only_where_benefit_is_expected():
    assert decide(*both_weeks(**SHIFTED)).kind == "retrain"
    action = decide(*both_weeks(**SHIFTED), num_trained_on=400000)
    assert action.kind == "observe"
    assert "waiting: expected benefit 0.06" in words(action)


def test_a_material_part_of_the_columns_gives_covariate_shift_its_full_weight():
    tenth = (drift("temperature", 3.1), *(drift(f"column_{n}") for n in range(9)))
    facts = Facts(both_weeks(columns=tenth), ROLES, 0, 80000)
    keen = CONFIG.governor.model_copy(update={"full_drift_share": 0.1})
    chosen = CONFIG.model_copy(update={"governor": keen})
    now = state(last_training_at=day(0))
    assert "weight of the drift 10%" in words(next_action(now, facts, CONFIG, day(61)))
    assert "weight of the drift 100%" in words(next_action(now, facts, chosen, day(61)))


def test_evidence_that_was_acted_on_is_not_acted_on_again():
    config = CONFIG.model_copy(
        update={"governor": CONFIG.governor.model_copy(update={"cooldown_days": 0.0})}
    )
    facts = Facts(both_weeks(**DRIFTED), ROLES, 0, 80000)
    acted = next_action(state(last_training_at=day(60)), facts, config, day(61))
    assert acted.kind == "observe"
    assert "acted on this evidence" in words(acted)


def test_a_prior_shift_is_recalibrated_while_training_has_to_wait():
    found = both_weeks(**WRONG_PRIOR, num_new_labels=9000)
    action = decide(*found)
    assert (action.kind, action.cause) == ("recalibrate", "prior_shift")
    rested = decide(*found, last_recalibration_at=day(50))
    assert rested.kind == "observe"
    assert "last recalibration 10 days ago" in words(rested)


def test_labels_from_before_a_recalibration_still_count_as_new_to_the_network():
    found = both_weeks(**DRIFTED, num_new_labels=9000)
    assert decide(*found).kind == "observe"
    assert decide(*found, carried_labels=12000).kind == "retrain"


def test_broken_data_is_alerted_once_an_episode_and_never_trained_on():
    broken = both_weeks(**NULLS, performance=evaluation(0.5))
    assert decide(*broken).kind == "alert"
    alerted = decide(*broken, alerts={"broken_data": day(53)})
    assert alerted.kind == "observe"
    again = [evidence(day=46, **NULLS), evidence(day=53), evidence(day=60, **NULLS)]
    assert decide(*again, alerts={"broken_data": day(46)}).kind == "alert"


def test_serving_skew_takes_back_where_there_is_a_way_back():
    skewed = evidence(day=60, skewed_share=0.3)
    assert decide(skewed, roles=WITH_PREVIOUS).kind == "rollback"
    assert decide(skewed).kind == "alert"


def test_serving_skew_interrupts_the_watch():
    skewed = evidence(day=60, skewed_share=0.3)
    action = decide(skewed, roles=WITH_PREVIOUS, phase="watch", promoted_at=day(58))
    assert action.kind == "rollback"


def test_a_candidate_goes_through_the_gate_and_its_verdict_is_followed():
    assert decide(phase="gate", candidate="w").kind == "gate"
    passed = decide(phase="promote", candidate="w", gate=gate_report())
    assert (passed.kind, passed.candidate) == ("promote", "w")
    refused = decide(phase="promote", candidate="w", gate=gate_report(False))
    assert (refused.kind, words(refused)) == ("refuse", "AUC gain -0.01 is under 0")


def test_without_a_report_of_the_gate_nothing_is_promoted():
    assert decide(phase="promote", candidate="w").kind == "refuse"


@pytest.mark.parametrize(
    ("now_day", "watched_day", "kind"),
    [(6.9, None, "observe"), (7, None, "watch"), (13, 7, "observe"), (14, 7, "watch"),
     (21, 20, "watch"), (22, 21, "observe"), (28, 21, "watch"), (42, 35, "keep")],
)  # fmt: skip
def test_the_watch_looks_weekly_and_at_its_end(now_day, watched_day, kind):
    watched = {} if watched_day is None else {"watched_at": day(watched_day)}
    action = decide(
        now_day=now_day, roles=WITH_PREVIOUS, phase="watch", promoted_at=day(0), **watched
    )
    assert action.kind == kind


@pytest.mark.parametrize(("verdict", "kind"), [("harm", "rollback"), ("keep", "keep")])
def test_the_verdict_of_the_watch_is_followed(verdict, kind):
    report = WatchReport(verdict=verdict, reasons=("numbers",), num_rows=9000, num_days=14)
    watching = {"phase": "watch", "promoted_at": day(40), "watched_at": day(60), "watch": report}
    assert decide(roles=WITH_PREVIOUS, **watching).kind == kind


def test_nothing_is_trained_during_the_watch():
    drifted = both_weeks(**DRIFTED)
    action = decide(*drifted, roles=WITH_PREVIOUS, phase="watch", promoted_at=day(58))
    assert action.kind == "observe"

"""What the loop does when the world fails it."""

from datetime import timedelta

import pytest

from app.contracts.shares import Shares
from app.data.tables import open_tables
from app.ledger.clock import drive_clock
from app.ledger.decisions import open_decision
from app.ledger.evidence import record_fold
from app.ledger.progress import read_progress
from app.loop.execution import _with_parts
from app.loop.policy import Facts
from app.loop.stewardship import MAX_TRIES, Steward
from app.registry.store import change_roles, read_roles, register_version, roles_history
from tests.unit.loop.world import (
    DRIFTED,
    START,
    Operation,
    World,
    config_at,
    fresh_ledger,
    version,
)


def test_a_failed_training_is_recorded_charged_cooled_down_and_the_loop_goes_on(tmp_path):
    loop = Operation(tmp_path, failing={1: "training job ended as failed: out of memory"})
    assert loop.week() == ["retrain", "gate", "promote"]
    champion = read_roles(loop.ledger, "flights").champion
    loop.week(**DRIFTED)
    assert loop.week(**DRIFTED) == ["retrain"]
    failed = loop.decisions[-1]
    assert failed.outcome["status"] == "failed"
    assert "out of memory" in failed.outcome["reason"]
    assert (loop.state.phase, loop.state.num_retrainings) == ("observe", 1)
    assert loop.state.attempts == (failed.at,)
    assert read_roles(loop.ledger, "flights").champion == champion
    assert loop.week(**DRIFTED) == []
    assert "last training 7 days ago (14 needed)" in loop.says()
    assert loop.week(**DRIFTED) == ["retrain", "gate", "promote"]
    assert len(loop.state.attempts) == 2


def test_a_failed_first_training_is_tried_again_later(tmp_path):
    loop = Operation(tmp_path, failing={0: "no rows"})
    assert loop.week() == ["retrain"]
    assert len(loop.state.attempts) == 1
    assert loop.state.num_retrainings == 0
    assert loop.week() == ["retrain", "gate", "promote"]


def test_the_first_model_costs_no_budget(tmp_path):
    loop = Operation(tmp_path)
    loop.week()
    assert loop.state.attempts == ()


def test_a_refused_candidate_takes_no_traffic_and_costs_budget(tmp_path):
    loop = Operation(tmp_path, refused=frozenset({"flights-0003-retrain"}))
    loop.week()
    champion = read_roles(loop.ledger, "flights")
    loop.week(**DRIFTED)
    assert loop.week(**DRIFTED) == ["retrain", "gate", "refuse"]
    assert read_roles(loop.ledger, "flights") == champion
    assert loop.decisions[-1].action.reasons == ("AUC gain -0.01 is under 0",)
    assert (loop.state.phase, loop.state.candidate) == ("observe", None)
    assert len(loop.state.attempts) == 1


def test_harm_after_a_promotion_is_taken_back(tmp_path):
    loop = Operation(tmp_path, harmful=frozenset({"flights-0003-retrain"}))
    loop.week()
    first = read_roles(loop.ledger, "flights").champion
    loop.week(**DRIFTED)
    assert loop.week(**DRIFTED) == ["retrain", "gate", "promote"]
    promoted = read_roles(loop.ledger, "flights")
    assert (promoted.champion, promoted.previous) == (
        version("flights-0003-retrain").digest,
        first,
    )
    assert loop.week() == ["watch", "rollback"]
    roles = read_roles(loop.ledger, "flights")
    assert (roles.champion, roles.previous) == (first, None)
    assert loop.state.phase == "observe"


def test_a_candidate_that_replicas_cannot_load_never_becomes_champion(tmp_path):
    loop = Operation(tmp_path, unloadable=frozenset({"flights-0003-retrain"}))
    loop.week()
    first = read_roles(loop.ledger, "flights").champion
    loop.week(**DRIFTED)
    assert loop.week(**DRIFTED) == ["retrain", "gate", "promote"]
    assert loop.decisions[-1].outcome["reason"] == "replica r1 cannot load it: altered"
    champions = {roles.champion for _, roles in roles_history(loop.ledger, "flights")}
    assert champions - {None} == {first}
    assert read_roles(loop.ledger, "flights").challenger is None
    assert loop.state.phase == "observe"


def test_a_promotion_ends_the_contest_under_way(tmp_path):
    loop = Operation(tmp_path)
    loop.week()
    rival = register_version(loop.ledger, version("rival")).digest
    roles = read_roles(loop.ledger, "flights")
    contest = roles.model_copy(update={"challenger": rival, "shares": Shares(challenger=0.5)})
    with loop.ledger.transaction() as connection:
        key, epoch = loop.decisions[-1].key, loop.steward._epoch
        change_roles(connection, roles.generation, contest, key, epoch, START)
    loop.week(**DRIFTED)

    assert loop.week(**DRIFTED)[:3] == ["retrain", "gate", "promote"]

    after = [roles for _, roles in roles_history(loop.ledger, "flights")]
    assert after[-1].champion not in (rival, roles.champion)
    # Neither as the one to be loaded nor as champion has the candidate the rival's share.
    assert [roles.shares for roles in after[-2:]] == [Shares(), Shares()]


def test_a_shadow_outlives_a_promotion_unless_it_is_the_one_promoted(tmp_path):
    loop = Operation(tmp_path)
    loop.week()
    rival = register_version(loop.ledger, version("rival")).digest
    roles = read_roles(loop.ledger, "flights").model_copy(update={"shadow": rival})
    with loop.ledger.transaction() as connection:
        key, epoch = loop.decisions[-1].key, loop.steward._epoch
        change_roles(connection, roles.generation, roles, key, epoch, START)

    assert _with_parts(roles, challenger="another").shadow == rival
    assert _with_parts(roles, challenger=rival).shadow is None
    loop.week(**DRIFTED)
    assert loop.week(**DRIFTED)[:3] == ["retrain", "gate", "promote"]
    after = read_roles(loop.ledger, "flights")
    assert (after.champion != roles.champion, after.shadow) == (True, rival)


def test_broken_data_alerts_once_and_trains_nothing(tmp_path):
    loop = Operation(tmp_path)
    loop.week()
    broken = {**DRIFTED, "num_quarantined": 9000}
    assert loop.week(**broken) == ["alert"]
    assert [loop.week(**broken) for _ in range(3)] == [[], [], []]
    assert loop.world.alerts == ["flights-0003-alert"]
    loop.week()
    assert loop.week(**broken) == ["alert"]


def test_a_world_that_does_not_answer_is_tried_again_under_the_same_decision(tmp_path):
    loop = Operation(tmp_path)
    judge, tries = loop.world.judge, []

    def unreachable(*arguments):
        tries.append(arguments)
        if len(tries) < 4:
            raise ConnectionError("no answer")
        return judge(*arguments)

    loop.world.judge = unreachable
    for _ in range(3):
        with pytest.raises(ConnectionError):
            loop.week()
        loop.day -= 7
        assert open_decision(loop.ledger, "flights").key == "flights-0001-gate"
    loop.week()
    assert [decision.action.kind for decision in loop.decisions] == ["retrain", "gate", "promote"]
    assert len(loop.world.jobs) == 1


def test_a_world_that_never_answers_is_given_up_and_the_loop_goes_on(tmp_path):
    loop = Operation(tmp_path)

    def unreachable(*arguments):
        raise ConnectionError("no answer")

    loop.world.judge = unreachable
    for _ in range(MAX_TRIES):
        with pytest.raises(ConnectionError):
            loop.week()
        loop.day -= 7
    loop.week()
    outcomes = [decision.outcome for decision in loop.decisions]
    assert "given up after" in outcomes[1]["reason"]
    assert loop.decisions[2].action.kind == "refuse"
    assert read_roles(loop.ledger, "flights").champion is None


def test_a_switch_that_is_given_up_half_way_counts_as_done(tmp_path):
    loop = Operation(tmp_path)

    def unreachable(*arguments):
        raise ConnectionError("no answer")

    loop.world.await_switch = unreachable
    for _ in range(MAX_TRIES):
        with pytest.raises(ConnectionError):
            loop.week()
        loop.day -= 7
    outcome = loop.decisions[-1].outcome
    assert outcome["status"] == "done"
    assert "no answer" in outcome["problems"][0]
    assert read_roles(loop.ledger, "flights").champion == outcome["version"]


def test_on_a_driven_clock_the_steward_waits_for_the_monitor(tmp_path):
    loop = Operation(tmp_path)
    loop.week()
    later = START + timedelta(days=7)
    drive_clock(loop.ledger, loop.config, now=later, watermark=later)
    assert loop.steward.tick(later) is None
    assert read_progress(loop.ledger, "flights")["steward"].watermark == START
    record_fold(loop.ledger, "flights", [], {}, b"", later, {})
    assert loop.steward.tick(later).kind == "observe"
    assert read_progress(loop.ledger, "flights")["steward"].watermark == later


def test_the_watermark_is_reached_only_when_all_is_done(tmp_path):
    loop = Operation(tmp_path)
    loop.week()
    loop.week(**DRIFTED)
    reached = []

    def looks(decision):
        reached.append(read_progress(loop.ledger, "flights")["steward"].watermark)
        return train(decision)

    train, loop.world.train = loop.world.train, looks
    assert loop.week(**DRIFTED) == ["retrain", "gate", "promote"]
    assert reached == [START + timedelta(days=7)]
    assert read_progress(loop.ledger, "flights")["steward"].watermark == START + timedelta(days=14)


def test_the_steward_says_what_it_does_and_why(tmp_path):
    loop = Operation(tmp_path)
    said = []
    train = loop.world.train
    loop.world.train = lambda decision: (said.append(loop.says()), train(decision))[1]
    loop.week()
    assert said[0].startswith("retrain: there is no champion yet; 80,000 outcomes are known")
    assert loop.says().startswith("observing: ")


def test_the_labels_of_the_tables_are_counted_as_known_at_the_time(tmp_path):
    config = config_at(tmp_path)
    tables = open_tables(config)
    schema = tables.schema("labels")
    known = [START - timedelta(days=1)] * 3 + [START + timedelta(days=1)]
    rows = {"row_id": list("abcd"), "label": [1, 0, None, 1], "void": [False, False, True, False]}
    rows |= {"known_at": known, "received_at": known, "source": ["s"] * 4}
    tables.append("labels", schema.empty_table().from_pydict(rows, schema=schema))
    world = World(fresh_ledger(tmp_path))
    steward = Steward(config, world.ledger, world, tables)
    facts: Facts = steward._facts(START)
    assert facts.num_labels == 2

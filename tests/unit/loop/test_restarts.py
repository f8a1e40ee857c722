"""The loop, killed at every instant, decides and does the same."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app.config import Config
from app.contracts.records import Decision, Evidence, LoopState
from app.data.tables import open_tables
from app.ledger.clock import drive_clock
from app.ledger.database import Ledger
from app.ledger.decisions import read_decisions
from app.ledger.epochs import Fenced
from app.ledger.evidence import record_fold
from app.ledger.journal import entries, verify
from app.ledger.progress import read_progress
from app.ledger.states import read_state
from app.loop.policy import Facts
from app.loop.stewardship import Steward
from app.registry.store import RolesAt, read_roles, roles_history
from tests.unit.loop.world import (
    START,
    Instants,
    Killed,
    MortalLedger,
    World,
    config_at,
    evaluation,
    evidence,
    fresh_ledger,
)

Script = Callable[[str, int], Evidence | None]
NUM_LABELS = 80000
NUM_WEEKS = 6
OVERRIDES = (
    "loop.watch.days=14",
    "loop.watch.look_days=7",
    "loop.governor.cooldown_days=14",
)


def drifting_script(champion: str, day: int) -> Evidence | None:
    """Concept drift in the second and third week."""
    drifted = evaluation(0.66) if day in (14, 21) else evaluation()
    return evidence(champion, day, performance=drifted)


def play(
    folder: Path, num_weeks: int, world: World, instants: Instants, script: Script = drifting_script
) -> tuple[Config, Ledger]:
    """Run weeks as driver, monitor and steward do; a killed steward is started again."""
    config = config_at(folder, *OVERRIDES)
    steward = None
    for day in range(0, 7 * num_weeks, 7):
        now = START + timedelta(days=day)
        drive_clock(world.ledger, config, now=now, watermark=now)
        roles = read_roles(world.ledger, "flights")
        found = script(roles.champion, day) if roles.champion else None
        record_fold(world.ledger, "flights", [found] if found else [], {}, b"", now, {})
        while True:
            try:
                steward = steward or _steward(config, world, instants)
                steward.tick(now)
                break
            except Killed:
                steward = None
        assert read_progress(world.ledger, "flights")["steward"].watermark == now
    return config, world.ledger


class Enough(Steward):
    """A steward that need not read a table of labels to know that there are enough of them."""

    def _facts(self, at) -> Facts:
        facts = super()._facts(at)
        return Facts(facts.evidence, facts.roles, NUM_LABELS, facts.num_trained_on)


def _steward(config: Config, world: World, instants: Instants) -> Steward:
    tables = open_tables(config)
    return Enough(config, MortalLedger(world.ledger, instants), world, tables)


def told(ledger: Ledger) -> tuple[list[Decision], list[RolesAt], LoopState]:
    """What came out, without the epochs, which count restarts."""
    decisions = [item.model_copy(update={"epoch": 0}) for item in read_decisions(ledger, "flights")]
    return decisions, roles_history(ledger, "flights"), read_state(ledger, "flights")


def assert_each_thing_was_done_once(ledger: Ledger, world: World) -> None:
    kinds = [decision.action.kind for decision in read_decisions(ledger, "flights")]
    journal = entries(ledger, "flights")
    assert verify(ledger) == []
    assert len(world.jobs) == len(set(world.jobs)) == kinds.count("retrain")
    for kind in ("intent", "outcome"):
        keys = [str(entry.payload["key"]) for entry in journal if entry.kind == kind]
        assert len(keys) == len(set(keys)) == len(kinds)
    champions = [roles.champion for _, roles in roles_history(ledger, "flights")]
    switches = sum(1 for old, new in zip([None, *champions], champions, strict=False) if old != new)
    assert switches == kinds.count("promote") + kinds.count("rollback")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("undisturbed")
    world, instants = World(fresh_ledger(folder)), Instants()
    world.instants = instants
    play(folder, NUM_WEEKS, world, instants)
    return told(world.ledger), instants.count


def test_the_undisturbed_loop_trains_promotes_watches_and_keeps(undisturbed):
    (decisions, _, state), _ = undisturbed
    kinds = [decision.action.kind for decision in decisions]
    assert kinds == [
        "retrain", "gate", "promote",
        "retrain", "gate", "promote", "watch", "watch", "keep",
    ]  # fmt: skip
    assert state.phase == "observe"
    assert state.num_retrainings == 1


NUM_SHARDS = 4


@pytest.mark.parametrize("shard", range(NUM_SHARDS))
def test_killed_at_any_instant_it_decides_the_same_and_does_each_thing_once(
    tmp_path, undisturbed, shard
):
    expected, num_instants = undisturbed
    assert num_instants > 80
    for instant in range(1 + shard, num_instants + 1, NUM_SHARDS):
        folder = tmp_path / str(instant)
        instants = Instants(frozenset({instant}))
        world = World(fresh_ledger(folder), instants)
        _, ledger = play(folder, NUM_WEEKS, world, instants)
        assert instants.num_kills == 1
        assert told(ledger) == expected, f"killed at instant {instant}"
        assert_each_thing_was_done_once(ledger, world)
        ledger.close()


@pytest.mark.parametrize("stride", [2, 3, 5, 7])
def test_killed_again_and_again_it_still_comes_through(tmp_path, undisturbed, stride):
    expected, _ = undisturbed
    # The distance grows: a process that dies at every second instant for ever gets nowhere.
    kills, at = set(), 0
    for step in range(60):
        at += stride + step // 2
        kills.add(at)
    instants = Instants(frozenset(kills))
    world = World(fresh_ledger(tmp_path), instants)
    _, ledger = play(tmp_path, NUM_WEEKS, world, instants)
    assert instants.num_kills > 5
    assert told(ledger) == expected
    assert_each_thing_was_done_once(ledger, world)


def test_the_older_of_two_stewards_is_fenced_in_the_middle_of_its_act(tmp_path):
    config = config_at(tmp_path, *OVERRIDES)
    world = World(fresh_ledger(tmp_path))
    drive_clock(world.ledger, config, now=START, watermark=START)
    older = _steward(config, world, Instants())
    judge = world.judge

    def interrupted(*arguments):
        # While the older one compares, a newer one starts and does everything.
        world.judge = judge
        _steward(config, world, Instants()).tick(START)
        return judge(*arguments)

    world.judge = interrupted
    with pytest.raises(Fenced):
        older.tick(START)
    kinds = [decision.action.kind for decision in read_decisions(world.ledger, "flights")]
    assert kinds == ["retrain", "gate", "promote"]
    assert_each_thing_was_done_once(world.ledger, world)
    later = START + timedelta(days=1)
    drive_clock(world.ledger, config, now=later, watermark=later)
    record_fold(world.ledger, "flights", [], {}, b"", later, {})
    with pytest.raises(Fenced):
        older.tick(later)

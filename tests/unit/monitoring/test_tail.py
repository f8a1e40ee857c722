import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from app.ledger.epochs import Fenced
from app.ledger.evidence import read_evidence, read_fold
from app.ledger.progress import read_progress
from app.monitoring import tail as tail_module
from app.monitoring.tail import Tail
from app.registry.artifacts import ArtifactMissing
from tests.unit.monitoring.logs import Logs, day, make_day, without_labels
from tests.unit.monitoring.world import World

WALL = datetime(2026, 1, 1, tzinfo=UTC)
NUM_DAYS = 6


def run_days(
    world: World, between: Callable[[int, Tail], Tail] = lambda number, tail: tail
) -> Tail:
    """Send some days and tick after each; `between` may put another tail in place of the first."""
    tail = Tail(world.config, world.ledger)
    for number in range(NUM_DAYS):
        world.send(make_day(number), num_pieces=2)
        tail = between(number, tail)
        tail.tick(WALL, {})
        world.reach(day(number + 1))
        tail = between(number, tail)
        tail.tick(WALL, {})
    return tail


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    world = World(tmp_path_factory.mktemp("undisturbed"))
    run_days(world)
    return world.evidence


def test_evidence_is_recorded_when_its_window_ends(undisturbed: list[str], tmp_path: Path) -> None:
    world = World(tmp_path)
    run_days(world)

    found = read_evidence(world.ledger, "rides")
    assert [item.end for item in found] == [day(n) for n in (1, 3, 5)]
    assert all(item.skewed_share == 0.0 for item in found)
    assert found[-1].performance is not None
    assert found[-1].performance.num_rows == found[-1].num_known
    assert world.evidence == undisturbed


@pytest.mark.parametrize("checkpoint_seconds", [0.0, 1e9])
def test_a_monitor_killed_before_every_tick_leaves_the_same_evidence(
    undisturbed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    checkpoint_seconds: float,
) -> None:
    monkeypatch.setattr(tail_module, "CHECKPOINT_SECONDS", checkpoint_seconds)
    world = World(tmp_path)

    tail = run_days(world, between=lambda number, tail: Tail(world.config, world.ledger))

    assert world.evidence == undisturbed
    assert tail.state.counts.num_predictions == NUM_DAYS * 40
    assert tail.state.counts.num_labels == NUM_DAYS * 40


def test_a_monitor_killed_inside_its_transaction_leaves_the_same_evidence(
    undisturbed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    real, calls = tail_module.record_fold, itertools.count()

    def killed_at_first(*arguments: object, **options: object) -> int:
        if next(calls) % 2 == 0:
            raise KeyboardInterrupt
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tail_module, "record_fold", killed_at_first)
    tail = Tail(world.config, world.ledger)
    for number in range(NUM_DAYS):
        world.send(make_day(number))
        world.reach(day(number + 1))
        try:
            tail.tick(WALL, {})
        except KeyboardInterrupt:
            tail = Tail(world.config, world.ledger)
            tail.tick(WALL, {})

    assert world.evidence == undisturbed


def test_a_tick_that_fails_loses_no_evidence(undisturbed: list[str], tmp_path: Path) -> None:
    world = World(tmp_path)
    artifact = world.config.artifacts_path / world.digest
    away = artifact.with_name("away")
    tail = Tail(world.config, world.ledger)
    world.send(make_day(0))
    world.reach(day(1))
    artifact.rename(away)
    with pytest.raises(ArtifactMissing):
        tail.tick(WALL, {})
    tail.complain(WALL, "the artifact is away")
    assert (
        read_progress(world.ledger, "rides")["monitor"].detail["problem"] == "the artifact is away"
    )

    away.rename(artifact)
    tail.tick(WALL, {})

    assert world.evidence == undisturbed[:1]
    assert "problem" not in read_progress(world.ledger, "rides")["monitor"].detail


def test_a_replaced_monitor_is_fenced_and_writes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    old, new = Tail(world.config, world.ledger), Tail(world.config, world.ledger)
    world.send(make_day(0))
    world.reach(day(1))

    with pytest.raises(Fenced):
        old.tick(WALL, {})
    assert world.evidence == []

    new.tick(WALL, {})
    assert len(world.evidence) == 1


def test_the_watermark_is_passed_on_only_after_the_evidence(tmp_path: Path) -> None:
    world = World(tmp_path)
    tail = Tail(world.config, world.ledger)
    world.send(make_day(0))
    tail.tick(WALL, {})
    assert read_progress(world.ledger, "rides")["monitor"].watermark == day(0)
    assert read_progress(world.ledger, "rides")["monitor"].detail["num_predictions"] == 40

    world.reach(day(1))
    tail.tick(WALL, {})

    assert read_progress(world.ledger, "rides")["monitor"].watermark == day(1)
    fold = read_fold(world.ledger, "rides")
    assert fold is not None
    assert fold.watermark == day(1)
    assert fold.offsets["predictions"] == world.tables.version("predictions")


def test_a_state_of_another_format_is_folded_again(undisturbed: list[str], tmp_path: Path) -> None:
    world = World(tmp_path)
    run_days(world)
    with world.ledger.transaction() as connection:
        connection.exec_driver_sql("UPDATE folds SET state = x'00'")

    tail = Tail(world.config, world.ledger)
    tail.tick(WALL, {})

    assert tail.state.counts.num_predictions == NUM_DAYS * 40
    assert world.evidence == undisturbed


def test_predictions_that_the_bundle_does_not_reproduce_are_skew(tmp_path: Path) -> None:
    world = World(tmp_path)
    logs = make_day(0)
    shifted = logs.events.set_column(
        logs.events.schema.get_field_index("distance"),
        "distance",
        pa.array([value + 3 for value in logs.events["distance"].to_pylist()]),
    )
    world.send(
        replace(logs, labels=logs.labels.slice(0, 0), predictions=logs.predictions.slice(0, 0))
    )
    scored_wrongly = Logs(shifted, logs.predictions, logs.labels, logs.quarantine)
    rows = world._rows(scored_wrongly)
    world.tables.append("predictions", rows["predictions"])
    world.reach(day(1))

    Tail(world.config, world.ledger).tick(WALL, {})

    assert read_evidence(world.ledger, "rides")[0].skewed_share > 0.9


def test_an_alarm_keeps_its_name_for_the_length_of_its_episode(tmp_path: Path) -> None:
    world = World(tmp_path)
    tail = Tail(world.config, world.ledger)
    alarms = []
    for number in range(NUM_DAYS):
        logs = make_day(number)
        nulls = pa.nulls(40, pa.float64())
        column = logs.events.schema.get_field_index("distance")
        world.send(replace(logs, events=logs.events.set_column(column, "distance", nulls)))
        world.reach(day(number + 1))
        tail.tick(WALL, {})
        alarms.append(tail.alarm())

    assert None not in alarms
    assert {alarm.name for alarm in alarms if alarm} == {
        f"2013-04-03-broken_data-{world.digest[:12]}"
    }
    assert tail.dataset(world.digest).num_rows == 1900


def test_quiet_logs_bring_no_evidence_but_the_watermark_moves(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.reach(day(10))

    tick = Tail(world.config, world.ledger).tick(WALL, {})

    assert (tick.evidence, tick.watermark) == ((), day(10))
    assert read_progress(world.ledger, "rides")["monitor"].watermark == day(10)


def test_rows_without_labels_give_evidence_without_performance(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send(without_labels(make_day(0)))
    world.reach(day(1))

    Tail(world.config, world.ledger).tick(WALL, {})

    found = read_evidence(world.ledger, "rides")[0]
    assert found.performance is None
    assert (found.num_predictions, found.num_known, found.coverage) == (40, 0, 0.0)

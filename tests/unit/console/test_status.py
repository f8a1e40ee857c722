import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from app.console.status import count_decisions, read_status, render_status
from app.contracts.records import Action, ActionKind, Decision
from app.ledger.decisions import complete_decision, record_decision
from app.ledger.progress import Progress, write_progress
from app.monitoring.tail import Tail
from app.registry.replicas import acknowledge
from jobs.status import run
from tests.unit.monitoring.logs import FIRST, day, label, make_day
from tests.unit.monitoring.world import World

WALL = datetime(2026, 1, 1, tzinfo=UTC)


def decide(world: World, number: int, kind: ActionKind, outcome: str | None = "done") -> None:
    decision = Decision(
        key=f"rides-{number:04d}-{kind}",
        model="rides",
        at=day(number),
        action=Action(kind=kind, reasons=("31 of 38 columns shifted",), cause="covariate_shift"),
        epoch=1,
    )
    with world.ledger.transaction() as connection:
        record_decision(connection, decision, number)
        if outcome is not None:
            complete_decision(connection, decision.key, {"status": outcome, "reason": "no rows"})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_model_that_was_never_started_has_a_status(world: World) -> None:
    status = read_status(world.config, world.ledger)

    assert (status.monitor_watermark, status.monitor_doing) == (None, "not started")
    assert (status.roles.champion, status.replicas, status.decisions) == (None, (), ())
    assert status.now == status.watermark == FIRST


def test_what_the_monitor_folded_is_in_the_status(world: World) -> None:
    tail = Tail(world.config, world.ledger)
    world.send(make_day(0))
    stray = label("nobody", 1, 0.5).append_column("source", [["http"]])
    world.tables.append("labels", stray)
    world.reach(day(1))
    tail.tick(WALL, {"metrics_url": "http://127.0.0.1:1/metrics", "reports": ["a.html"]})

    status = read_status(world.config, world.ledger)

    assert (status.num_predictions, status.num_labels, status.num_unknown_labels) == (40, 41, 1)
    assert status.monitor_watermark == status.watermark == day(1)
    assert status.num_evidence == 1
    assert status.evidence is not None
    assert status.evidence.end == day(1)
    assert status.metrics_url == "http://127.0.0.1:1/metrics"
    assert status.reports == ("a.html",)
    assert "too few labels" in status.monitor_doing


def test_decisions_are_told_with_reasons_and_counted_by_kind(world: World) -> None:
    decide(world, 0, "retrain")
    decide(world, 1, "retrain", outcome="failed")
    decide(world, 2, "promote")
    decide(world, 3, "refuse")
    decide(world, 4, "retrain", outcome=None)

    status = read_status(world.config, world.ledger)

    counts = status.counts
    assert (counts.retrainings, counts.promotions, counts.refusals, counts.failures) == (1, 1, 1, 1)
    assert status.decisions[-1].outcome == "under way"
    assert status.decisions[1].outcome == "no rows"
    assert status.decisions[0].reasons == ("31 of 38 columns shifted",)


def test_a_silent_replica_is_left_out(world: World) -> None:
    now = WALL.timestamp()
    acknowledge(world.ledger, "rides", "old", 1, [world.digest], now - 60)
    acknowledge(world.ledger, "rides", "new", 2, [world.digest], now - 1)

    assert [r.name for r in read_status(world.config, world.ledger).replicas] == ["new"]
    (replica,) = read_status(world.config, world.ledger, WALL).replicas
    assert (replica.generation, replica.silent_seconds) == (2, pytest.approx(1.0))


def test_the_steward_says_what_it_does_and_why(world: World) -> None:
    said = Progress("steward", day(2), {"says": "observing: nothing shifted"}, WALL)
    with world.ledger.transaction() as connection:
        write_progress(connection, "rides", said)

    status = read_status(world.config, world.ledger)

    assert (status.steward_watermark, status.steward_doing) == (
        day(2),
        "observing: nothing shifted",
    )


def test_a_wall_clock_needs_the_time(world: World) -> None:
    config = world.config.model_copy(update={"clock": "wall"})

    with pytest.raises(ValueError, match="give read_status a wall"):
        read_status(config, world.ledger)
    assert read_status(config, world.ledger, WALL).now == WALL


def test_a_status_is_drawn_for_people(world: World) -> None:
    decide(world, 0, "retrain")
    target = io.StringIO()

    Console(file=target, width=140).print(render_status(read_status(world.config, world.ledger)))

    text = target.getvalue()
    assert "rides" in text
    assert "retrain (covariate_shift)" in text
    assert "31 of 38 columns shifted" in text


def test_a_status_says_how_old_predictions_must_be_and_what_was_learned(world: World) -> None:
    for number in range(3):
        world.send(make_day(number))
    world.reach(day(3))
    Tail(world.config, world.ledger).tick(WALL, {})
    target = io.StringIO()

    Console(file=target, width=140).print(render_status(read_status(world.config, world.ledger)))

    # Labels come at 11:00 of the next day, for rows spread over the day: 11 to 35 hours later.
    told = "1.0 days (fixed); learned from 120 rows: 95% of outcomes come within 1.5 days"
    assert told in target.getvalue()


def test_kinds_that_change_nothing_are_not_counted() -> None:
    watch = Decision(
        key="k", model="m", at=FIRST, action=Action(kind="watch", reasons=()), epoch=1, outcome={}
    )

    assert sum(count_decisions([watch]).model_dump().values()) == 0


def test_the_job_shows_the_status_and_refuses_an_empty_workspace(
    world: World, tmp_path: Path
) -> None:
    assert run(world.config).model == "rides"

    empty = world.config.model_copy(update={"workspace": tmp_path / "empty"})
    with pytest.raises(ValueError, match="holds no ledger"):
        run(empty)
    assert not (tmp_path / "empty").exists()

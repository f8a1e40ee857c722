from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.data.delta_log import data_files
from app.data.snapshots import SnapshotAltered, load_snapshot
from app.ledger.clock import drive_clock
from app.ledger.evidence import record_fold
from app.registry.store import find_version
from jobs.retain import run
from tests.unit.monitoring.logs import make_day
from tests.unit.monitoring.world import CONTRACT, FIRST, World

DAY = timedelta(days=1)
# The machine's time of a job that runs after all commits are old.
LATER = datetime.now(UTC) + DAY


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A version that learned from one file of events, to which ten small ones were added."""
    world = World(tmp_path)
    rows = world.tables.read("events").slice(0, 10)
    for number in range(10):
        world.tables.append("events", rows.slice(number, 1))
    small = world.config.tables.model_copy(update={"max_small_files": 5, "keep_days": 0.0})
    world.config = world.config.model_copy(update={"tables": small})
    return world


def num_files(world: World) -> int:
    return len(data_files(world.tables.folder("events")))


def test_small_files_are_merged_and_those_that_nobody_needs_deleted(world: World) -> None:
    rows, dataset = world.tables.read("events"), find_version(world.ledger, world.digest).dataset
    done = run(world.config, LATER)
    assert (done["num_pinned"], done["events"]["compacted"]) == (1, True)
    assert done["events"]["num_files"] == 10
    assert num_files(world) == 2
    assert world.tables.read("events").num_rows == rows.num_rows
    assert load_snapshot(world.tables, CONTRACT, dataset).num_rows == dataset.num_rows
    assert run(world.config, LATER)["events"]["num_files"] == 0


def test_what_a_model_without_a_role_learned_from_goes_when_it_is_old(world: World) -> None:
    drive_clock(world.ledger, world.config, now=FIRST + DAY, watermark=FIRST)
    assert run(world.config, LATER)["events"]["num_files"] == 11
    with pytest.raises(SnapshotAltered, match="are gone; retention keeps"):
        load_snapshot(world.tables, CONTRACT, find_version(world.ledger, world.digest).dataset)


def test_what_the_monitor_has_still_to_read_stays(world: World) -> None:
    offsets = {"events": 4, "labels": -1, "predictions": -1, "quarantine": -1}
    record_fold(world.ledger, world.config.name, (), offsets, b"", FIRST, {})
    run(world.config, LATER)
    assert world.tables.read_since("events", 4)[0].num_rows == 7
    assert num_files(world) == 1 + 7 + 1


def test_recent_versions_stay(world: World) -> None:
    days = world.config.tables.model_copy(update={"keep_days": 30.0})
    config = world.config.model_copy(update={"tables": days})
    assert run(config, LATER)["events"] == {"compacted": True, "num_files": 0, "num_bytes": 0}
    assert world.tables.read("events", 3).num_rows > 0


def test_the_monitor_keeps_no_file_of_the_shadows_which_it_does_not_read(world: World) -> None:
    world.send(make_day(0))
    rows = world.tables.read("predictions").slice(0, 10).drop_columns(["arm", "propensity"])
    for number in range(10):
        world.tables.append("shadows", rows.slice(number, 1))
    record_fold(world.ledger, world.config.name, (), {"predictions": 0}, b"", FIRST, {})

    assert run(world.config, LATER)["shadows"]["num_files"] == 10

    assert world.tables.read("shadows").num_rows == 10

from datetime import UTC, datetime, timedelta

import pytest

from app.ledger.clock import Clock, ClockRefused, drive_clock, read_clock
from app.ledger.database import open_ledger
from tests.unit.loop.world import config_at

DAY = timedelta(days=1)
START = datetime(2013, 4, 1, tzinfo=UTC)
WALL = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path):
    return open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


def test_a_wall_clock_is_the_machines_and_cannot_be_driven(ledger, tmp_path):
    config = config_at(tmp_path, "clock=wall")
    assert read_clock(ledger, config, WALL) == Clock(WALL, WALL)
    with pytest.raises(ClockRefused, match="only a driven clock"):
        drive_clock(ledger, config, now=WALL)


def test_a_driven_clock_begins_at_the_end_of_history_and_moves_by_hand_only(ledger, tmp_path):
    config = config_at(tmp_path)
    assert read_clock(ledger, config, WALL) == Clock(START, START)
    drive_clock(ledger, config, now=START + DAY)
    assert read_clock(ledger, config, WALL) == Clock(START + DAY, START + DAY)
    drive_clock(ledger, config, now=START + 2 * DAY)
    assert read_clock(ledger, config, WALL) == Clock(START + 2 * DAY, START + DAY)
    drive_clock(ledger, config, watermark=START + 2 * DAY)
    assert read_clock(ledger, config, WALL).watermark == START + 2 * DAY


@pytest.mark.parametrize(
    ("move", "words"),
    [
        ({"now": START}, "cannot go back"),
        ({"watermark": START}, "watermark cannot go back"),
        ({"watermark": START + 3 * DAY}, "is after now"),
    ],
)
def test_impossible_moves_are_refused_and_change_nothing(ledger, tmp_path, move, words):
    config = config_at(tmp_path)
    drive_clock(ledger, config, now=START + DAY, watermark=START + DAY)
    with pytest.raises(ClockRefused, match=words):
        drive_clock(ledger, config, **move)
    assert read_clock(ledger, config, WALL) == Clock(START + DAY, START + DAY)


def test_production_refuses_a_driven_clock_even_if_it_was_configured_past_the_check(
    ledger, tmp_path
):
    config = config_at(tmp_path).model_copy(update={"profile": "production"})
    with pytest.raises(ClockRefused, match="production"):
        drive_clock(ledger, config, now=START)

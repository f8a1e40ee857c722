"""The steward as an actor: killed, it comes back with a newer epoch and goes on."""

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import ray

from app.config import Config
from app.ledger.clock import drive_clock
from app.ledger.database import Ledger, open_ledger
from app.ledger.epochs import steward_name, take_epoch
from app.ledger.progress import Progress, read_progress
from app.loop.steward import start_steward, write_effective
from app.session import namespace

pytestmark = pytest.mark.ray
START = datetime(2013, 4, 1, 6, tzinfo=UTC)
# Without labels nothing is trained, so that nothing asks for a job server.
NOWHERE = "http://127.0.0.1:1"


def move(config: Config, ledger: Ledger, days: float) -> datetime:
    now = START + timedelta(days=days)
    drive_clock(ledger, config, now=now, watermark=now)
    return now


def await_progress(ledger: Ledger, reached: Callable[[Progress], bool]) -> Progress:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        progress = read_progress(ledger, "flights").get("steward")
        if progress is not None and reached(progress):
            return progress
        time.sleep(0.1)
    raise AssertionError(f"the steward did not get there: {progress}")


@pytest.fixture
def steward(ray_cluster, flights):
    ledger = open_ledger(flights.ledger_url)
    now = move(flights, ledger, 0)
    assert start_steward(flights, NOWHERE)
    actor = ray.get_actor("steward-flights", namespace=namespace(flights))
    await_progress(ledger, lambda progress: progress.watermark == now)
    yield actor, flights, ledger
    ray.kill(actor)


def test_a_steward_killed_by_the_system_comes_back_and_goes_on(steward):
    actor, config, ledger = steward
    first = read_progress(ledger, "flights")["steward"]
    assert first.detail["says"].startswith("observing: there is no champion yet")
    os.kill(ray.get(actor.process_id.remote()), signal.SIGKILL)
    now = move(config, ledger, 1)
    later = await_progress(ledger, lambda progress: progress.watermark == now)
    assert later.detail["epoch"] == first.detail["epoch"] + 1


def test_starting_again_finds_the_steward_that_runs(steward):
    _, config, ledger = steward
    epoch = read_progress(ledger, "flights")["steward"].detail["epoch"]
    assert start_steward(config, NOWHERE)
    now = move(config, ledger, 1)
    later = await_progress(ledger, lambda progress: progress.watermark == now)
    assert later.detail["epoch"] == epoch


def test_a_steward_that_was_replaced_stops(steward):
    actor, config, ledger = steward
    take_epoch(ledger, steward_name("flights"))
    move(config, ledger, 1)
    deadline = time.monotonic() + 60
    while ray.get(actor.alive.remote()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not ray.get(actor.alive.remote())
    assert read_progress(ledger, "flights")["steward"].watermark == START


def test_the_effective_configuration_is_written_for_jobs_and_loads_again(flights):
    from app.config import load_config

    changed = flights.model_copy(update={"name": "other"})
    assert load_config(write_effective(changed)) == changed

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
import typer
import yaml
from typer.testing import CliRunner

from app.console.status import read_status
from app.monitoring.monitor import await_monitor, start_monitor
from app.monitoring.tail import Tail
from jobs.monitor import ask, main, run_as_known, run_once
from tests.unit.monitoring.logs import Logs, day, make_day
from tests.unit.monitoring.world import World

pytestmark = pytest.mark.ray
WALL = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE_SECONDS = 300.0


def wait_for(done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s"
        time.sleep(0.2)


def scrape(url: str) -> str:
    return urllib.request.urlopen(url).read().decode()


def has_settled(world: World) -> bool:
    status = read_status(world.config, world.ledger)
    return status.monitor_watermark == status.watermark


def broken_day(number: int) -> Logs:
    """A day on which every second distance is missing: training has seen no such thing."""
    logs = make_day(number)
    values = logs.events["distance"].to_pylist()
    values[::2] = [None] * len(values[::2])
    place = logs.events.schema.get_field_index("distance")
    return replace(logs, events=logs.events.set_column(place, "distance", pa.array(values)))


@pytest.fixture
def world(tmp_path: Path, ray_cluster: None) -> Iterator[World]:
    world = World(tmp_path / "watched")
    handle = start_monitor(world.config)
    await_monitor(handle)
    yield world
    ray.kill(start_monitor(world.config))


def undisturbed_evidence(folder: Path, num_days: int) -> list[str]:
    world = World(folder)
    tail = Tail(world.config, world.ledger)
    for number in range(num_days):
        world.send(broken_day(number))
        world.reach(day(number + 1))
        tail.tick(WALL, {})
    return world.evidence


def test_a_killed_monitor_comes_back_by_itself_with_the_same_evidence_and_draws_its_report(
    world: World, tmp_path: Path
) -> None:
    handle = start_monitor(world.config)
    for number in range(4):
        world.send(broken_day(number))
        if number == 2:
            os.kill(ray.get(handle.process_id.remote()), signal.SIGKILL)
        world.reach(day(number + 1))
        wait_for(lambda: has_settled(world))

    assert world.evidence == undisturbed_evidence(tmp_path / "undisturbed", 4)
    assert read_status(world.config, world.ledger).num_predictions == 160

    url = await_monitor(handle)
    wait_for(lambda: "mainspring_predictions_total" in scrape(url))
    wait_for(lambda: "mainspring_reports_total" in scrape(url))
    assert 'outcome="written"' in scrape(url)
    page = next(world.config.reports_path.glob("*.html"))
    assert "distance" in page.read_text()
    assert page.with_suffix(".json").stat().st_size > 100


def test_starting_it_twice_gives_one_monitor(world: World) -> None:
    first, second = start_monitor(world.config), start_monitor(world.config)

    assert ray.get(first.process_id.remote()) == ray.get(second.process_id.remote())


def test_the_job_folds_once_in_its_own_process(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send(make_day(0))
    world.reach(day(1))

    record = run_once(world.config)

    assert (record["num_predictions"], record["num_labels"]) == (40, 40)
    assert len(world.evidence) == 1
    assert run_once(world.config)["evidence"] == []


def command(world: World, *options: str) -> Any:
    """Run the job as a person does."""
    job = typer.Typer()
    job.command()(main)
    file = world.config.workspace / "rides.yaml"
    file.write_text(yaml.safe_dump(world.config.model_dump(mode="json")))
    return CliRunner().invoke(job, ["--config", str(file), *options])


def test_the_job_tells_what_was_known_at_a_time_and_writes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(4):
        world.send(make_day(number))
    world.reach(day(4))
    before = sorted((path, path.stat().st_size) for path in tmp_path.glob("tables/**/*"))

    done = command(world, "--as-known-at", f"{day(3):%Y-%m-%d}", "--start", f"{day(0):%Y-%m-%d}")
    record = json.loads(done.stdout.splitlines()[-1])

    assert done.exit_code == 0, done.output
    # The labels of the third day come at 10:00 of the fourth.
    assert record["num_predictions"] == 120
    assert record["num_known"] + record["num_void"] == 80
    assert record["num_pending"] == 40
    assert record["performance"]["roc_auc"]["low"] < record["performance"]["roc_auc"]["high"]
    assert "rides as known to us at 2013-04-05 00:00 UTC" in done.stderr
    assert before == sorted((path, path.stat().st_size) for path in tmp_path.glob("tables/**/*"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--as-known-at", "2013-04-04"], "is in the future"),
        (["--world"], "need --as-known-at"),
        (["--as-known-at", "2013-04-03", "--end", "2013-04-03T01:00:00"], "earlier end"),
    ],
)
def test_a_question_that_cannot_be_answered_says_what_to_change(
    tmp_path: Path, options: list[str], says: str
) -> None:
    world = World(tmp_path)
    world.send(make_day(0))
    world.reach(day(1))

    done = command(world, *options)

    assert done.exit_code == 2
    assert says in done.stderr


def test_nothing_predicted_yet_is_said_and_a_window_is_the_default(tmp_path: Path) -> None:
    world = World(tmp_path)
    question = ask(world.config, day(0))

    assert question.end - question.start == timedelta(world.config.monitoring.window_days)
    with pytest.raises(ValueError, match="no predictions yet"):
        run_as_known(world.config, question)

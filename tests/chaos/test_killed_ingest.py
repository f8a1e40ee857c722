"""Kill ingests half-way, driver or worker, at random moments: no row is lost and none comes twice.

Each world is a folder of files with good, bad and repeated rows, and outcomes. Ingests of it are
killed with SIGKILL and started again until one ends by itself; then every row of every file stands
in the tables exactly once, accepted or quarantined.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from app.config import Config, load_config, show_config
from app.contracts.rows import Column, Contract
from app.data.storage import digest_file
from app.data.tables import open_tables
from app.sections import SourceConfig
from app.session import session
from tests.job_process import finish_job

ROOT = Path(__file__).resolve().parents[2]
NUM_KILLS = 20
FILES, ROWS = 6, 300
# What Ray calls a worker while it judges blocks.
WORKER = "ray::MapBatches"
SECONDS = 7200


class World(NamedTuple):
    """A model with its files, and the rows that they hold: (file's digest, position)."""

    config: Path
    settings: Config
    rows: Counter[tuple[str, int]]
    outcomes: Counter[tuple[str, int]]


def make_world(folder: Path, flights: Config) -> World:
    """Write files whose weights say which row of which file they are."""
    (folder / "rows").mkdir(parents=True)
    (folder / "labels").mkdir()
    rows: Counter[tuple[str, int]] = Counter()
    outcomes: Counter[tuple[str, int]] = Counter()
    for file in range(FILES):
        lines = [line(file, row) for row in range(ROWS)]
        path = folder / "rows" / f"{file}.csv"
        path.write_text("\n".join(["parcel,promised,weight", *lines]) + "\n")
        rows.update((digest_file(str(path)), row) for row in range(ROWS))
        known = folder / "labels" / f"{file}.csv"
        told = [f"P{file}-{row},1,false,2024-03-20T00:00:00Z" for row in range(0, ROWS, 3)]
        known.write_text("\n".join(["row_id,label,void,known_at", *told]) + "\n")
        outcomes.update((digest_file(str(known)), row) for row in range(len(told)))
    contract = Contract(
        id="parcel",
        event_time="promised",
        label="lost",
        columns=(
            Column(name="parcel", kind="identifier", feature=False),
            Column(name="promised", kind="time", feature=False),
            Column(name="weight", kind="number", minimum=0),
        ),
    )
    source = SourceConfig(kind="csv", events=str(folder / "rows"), labels=str(folder / "labels"))
    changed = {
        "contract": contract,
        "source": source,
        "clock": "wall",
        "workspace": folder / "workspace",
        "cluster": flights.cluster.model_copy(update={"num_cpus": 2, "dashboard": False}),
    }
    settings = flights.model_copy(update=changed)
    config = folder / "shop.yaml"
    config.write_text(show_config(settings))
    return World(config, load_config(config), rows, outcomes)


def line(file: int, row: int) -> str:
    """One row of a file: of seven one is bad, one repeats an id, one is no row at all."""
    if row % 7 == 3:
        return f"P{file}-{row},2024-03-01T10:00:00Z,-{row}"
    if row % 7 == 4:
        return f"P0-{row - 1 - row % 7},2024-03-01T10:00:00Z,{file * ROWS + row}"
    if row % 7 == 5:
        return "no row"
    return f"P{file}-{row},2024-03-01T10:00:00Z,{file * ROWS + row}"


def found(world: World) -> tuple[Counter[tuple[str, int]], Counter[tuple[str, int]]]:
    """Say which rows and outcomes the tables hold, as often as they do."""
    tables = open_tables(world.settings)
    rows: Counter[tuple[str, int]] = Counter()
    outcomes: Counter[tuple[str, int]] = Counter()
    digests = {digest for digest, _ in world.rows}
    for event in tables.read("events").to_pylist():
        rows[event["source"].removeprefix("ingest:"), int(event["weight"]) % ROWS] += 1
    for refused in tables.read("quarantine").to_pylist():
        digest = refused["source"].removeprefix("ingest:")
        (rows if digest in digests else outcomes)[digest, refused["position"]] += 1
    for label in tables.read("labels").to_pylist():
        row = int(label["row_id"].partition("-")[2])
        outcomes[label["source"].removeprefix("ingest:"), row // 3] += 1
    return rows, outcomes


def start(world: World) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobs.ingest", "--config", str(world.config)]
    with (world.config.parent / "log").open("a") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)


def await_work(world: World, process: subprocess.Popen[str]) -> float:
    """Wait until an ingest reads, or ended; return when."""
    staging = world.settings.workspace / "staging"
    before = set(staging.glob("*-*"))
    while process.poll() is None and set(staging.glob("*-*")) <= before:
        time.sleep(0.01)
    return time.monotonic()


def workers(pid: int) -> Iterator[int]:
    """Give the workers that judge blocks now, among all that a process started."""
    parent: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            name = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        parent[int(folder.name)] = (int(after_name[1]), name)
    for each, (_, name) in parent.items():
        ancestor = each
        while ancestor in parent and ancestor != pid:
            ancestor = parent[ancestor][0]
        if ancestor == pid and name.startswith(WORKER):
            yield each


def kill_worker(process: subprocess.Popen[str], seconds: float) -> bool:
    """Kill a worker that judges, within some seconds of an ingest's life."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        for worker in workers(os.getpid()):
            os.kill(worker, signal.SIGKILL)
            return True
        time.sleep(0.02)
    return False


def kill_driver(process: subprocess.Popen[str], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def finish(world: World, process: subprocess.Popen[str]) -> dict[str, int]:
    return finish_job(process, world.config.parent / "log", 1800)


@pytest.mark.chaos
@pytest.mark.timeout(SECONDS)
def test_ingests_killed_at_random_moments_lose_and_double_no_row(
    tmp_path: Path, flights: Config
) -> None:
    draw, kills = random.Random(20), Counter[str]()
    calm = make_world(tmp_path / "calm", flights)
    with session(calm.settings) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        process = start(calm)
        began = await_work(calm, process)
        expected = finish(calm, process)
        length = time.monotonic() - began
        assert found(calm) == (calm.rows, calm.outcomes)

        num_worlds = num_rows = 0
        while kills.total() < NUM_KILLS:
            world = make_world(tmp_path / f"world {num_worlds}", flights)
            live_through(world, draw, length, kills)
            rows, outcomes = found(world)
            assert (rows, outcomes) == (world.rows, world.outcomes)
            again = finish(world, start(world))
            assert (again["num_in"], again["num_labels_in"]) == (0, 0)
            num_worlds += 1
            num_rows += rows.total() + outcomes.total()
    assert kills["driver"] >= NUM_KILLS // 4
    print(f"{dict(kills)} killed in {num_worlds} worlds: {num_rows} rows in, each found once")
    assert expected["num_in"] == FILES * ROWS


def live_through(world: World, draw: random.Random, length: float, kills: Counter[str]) -> None:
    """Start ingests and kill them until one ends by itself."""
    for attempt in range(100):
        process = start(world)
        await_work(world, process)
        # Three kills a world on average, so that resumed ingests are killed too.
        if attempt < draw.randint(1, 5) and kills.total() < NUM_KILLS:
            kind = draw.choice(["driver", "driver", "worker"])
            kill = kill_driver if kind == "driver" else kill_worker
            kills[kind] += kill(process, draw.uniform(0, length))
        if process.poll() is None:
            finish(world, process)
            return
        if process.returncode == 0:
            return
    raise AssertionError("a hundred ingests were killed")

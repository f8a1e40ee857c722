"""Kill scoring jobs at any instant, driver or worker: every row is scored once, by one version.

Each world is a folder of files with good, bad and broken rows. Jobs that score it are killed with
SIGKILL and started again until one ends by itself; then every row of every file stands in the sink
exactly once, scored or refused, stamped with the version.
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

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from sqlalchemy import create_engine, text

from app.config import Config, load_config, show_config
from app.ledger.database import open_ledger
from app.session import session
from tests.job_process import finish_job
from tests.serving_world import give_roles, make_table, put_version

ROOT = Path(__file__).resolve().parents[2]
FILES, ROWS = 8, 6000
NUM_KILLS = 6
# What Ray calls a worker while it scores.
WORKER = "ray::score_pieces"
SECONDS = 3600


class World(NamedTuple):
    """A model with a champion, files to score, and the rows that they hold: (file, position)."""

    config: Path
    settings: Config
    rows: Counter[tuple[str, int]]
    version: str


def make_world(folder: Path, flights: Config) -> World:
    """Write files in which one row of seven cannot be scored."""
    (folder / "rows").mkdir(parents=True)
    rows: Counter[tuple[str, int]] = Counter()
    for file in range(FILES):
        table = make_table(flights.contract, ROWS, first=file * ROWS)
        far = pa.array([-1.0 if i % 7 == 3 else 500.0 for i in range(ROWS)])
        place = table.schema.get_field_index("distance")
        table = table.set_column(place, table.schema.field("distance"), far)
        pq.write_table(table, folder / "rows" / f"{file}.parquet", row_group_size=ROWS // 2)
        rows.update((f"{file}.parquet", row) for row in range(ROWS))
    cluster = flights.cluster.model_copy(update={"num_cpus": 2, "dashboard": False})
    settings = flights.model_copy(
        update={"workspace": folder / "workspace", "cluster": cluster, "clock": "wall"}
    )
    ledger = open_ledger(settings.ledger_url)
    version = put_version(settings, ledger, seed=1)
    give_roles(ledger, settings.name, version)
    ledger.close()
    config = folder / "flights.yaml"
    config.write_text(show_config(settings))
    return World(config, load_config(config), rows, version)


def start(world: World, kind: str) -> subprocess.Popen[str]:
    folder = world.config.parent
    into = "scores" if kind == "sql" else str(folder / "scores")
    command = [
        *(sys.executable, "-m", "jobs.score", "--config", str(world.config)),
        *("--rows", str(folder / "rows"), "--into", into),
        *("--sink", kind, "--url-variable", "SCORES_URL"),
    ]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)


def database_of(world: World) -> str:
    return f"sqlite:///{world.config.parent}/scores.sqlite"


def scores_of(world: World, kind: str) -> list[dict[str, object]]:
    folder = world.config.parent / "scores"
    if kind == "sql":
        with create_engine(database_of(world)).connect() as connection:
            return [dict(row._mapping) for row in connection.execute(text("SELECT * FROM scores"))]
    if kind == "delta":
        rows: list[dict[str, object]] = DeltaTable(folder).to_pyarrow_table().to_pylist()
        return rows
    return [row for path in folder.glob("[!_]*") for row in pq.read_table(path).to_pylist()]


def workers(pid: int) -> Iterator[int]:
    """Give the workers that score now, among all that this process started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        # Another cluster of this machine has workers of this name too.
        if name.startswith(WORKER) and f"MAINSPRING_TEST={pid}".encode() in environment:
            yield int(folder.name)


def kill_one(process: subprocess.Popen[str], kind: str, seconds: float) -> bool:
    """Kill the driver, or a worker that scores, after some seconds of the job's life."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        if kind == "driver":
            process.kill()
            process.wait()
            return True
        for worker in workers(os.getpid()):
            os.kill(worker, signal.SIGKILL)
            return True
    return False


def await_work(process: subprocess.Popen[str]) -> float:
    """Wait until a job scores, or ended; return when."""
    while process.poll() is None and not list(workers(os.getpid())):
        time.sleep(0.01)
    return time.monotonic()


def live_through(
    world: World, kind: str, draw: random.Random, kills: Counter[str], seconds: float
) -> dict[str, int]:
    """Start jobs and kill them until one ends by itself; gives its record."""
    for attempt in range(100):
        process = start(world, kind)
        if attempt < draw.randint(1, 4):
            # Anywhere in a job's life, or while it scores: that is the shorter part.
            if draw.random() < 0.7:
                await_work(process)
                seconds = draw.uniform(0, 1.5)
            part = draw.choice(["driver", "worker"])
            kills[part] += kill_one(process, part, draw.uniform(0, seconds))
        if process.poll() is None:
            return finish_job(process, world.config.parent / "log", 900)
        if process.returncode == 0:
            assert process.stdout is not None
            process.stdout.close()
            return finish_job(start(world, kind), world.config.parent / "log", 900)
    raise AssertionError("a hundred jobs were killed")


@pytest.mark.chaos
@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("kind", ["parquet", "delta", "sql"])
def test_scoring_killed_at_any_instant_loses_and_doubles_no_row(
    tmp_path: Path, flights: Config, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, kills = random.Random(f"{kind} 5"), Counter[str]()
    monkeypatch.setenv("MAINSPRING_TEST", str(os.getpid()))
    number = 0
    world = make_world(tmp_path / "0", flights)
    with session(world.settings) as cluster:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        while kills.total() < NUM_KILLS:
            monkeypatch.setenv("SCORES_URL", database_of(world))
            record = live_through(world, kind, draw, kills, seconds=8.0)
            rows = scores_of(world, kind)
            assert Counter((row["file"], row["position"]) for row in rows) == world.rows
            assert {row["version"] for row in rows} == {world.version}
            num_scored = sum(row["probability"] is not None for row in rows)
            assert record["num_in"] == record["num_scored"] + record["num_rejected"] == len(rows)
            assert record["num_scored"] == num_scored
            number += 1
            world = make_world(tmp_path / str(number), flights)
    print(f"{kind}: {dict(kills)} killed in {number} worlds of {FILES * ROWS} rows, each once")
    assert min(kills["driver"], kills["worker"]) > 0

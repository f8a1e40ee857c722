"""Kill the parts that watch and decide while the product works: the decisions stay the same.

Runs the main job on two weeks of flights, once undisturbed and once with SIGKILL at random moments.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import load_config
from app.ledger.database import open_ledger
from app.ledger.decisions import read_decisions
from app.ledger.journal import verify
from tests.job_process import finish_job, start_job

PARTS = ("ray::StewardActor", "ray::MonitorActor")
SECONDS = 1500


def start(config: Path, log: Path) -> subprocess.Popen[str]:
    # Two workspaces draw two keys, and then rows and versions have other digests.
    return start_job("loop", config, log, "--fresh", MAINSPRING_PSEUDONYM_KEY="5a" * 32)


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Give process id and name of everything that a process started."""
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
        if ancestor == pid:
            yield each, name


def kill_one(pid: int, draw: random.Random) -> bool:
    """Kill the steward or the monitor of a run, if one is up."""
    found = [child for child, name in descendants(pid) if name.startswith(PARTS)]
    if not found:
        return False
    os.kill(draw.choice(found), signal.SIGKILL)
    return True


def decisions(config: Path) -> list[tuple[Any, ...]]:
    settings = load_config(config)
    ledger = open_ledger(settings.ledger_url)
    assert verify(ledger) == []
    made = read_decisions(ledger, settings.name)
    return [(d.key, d.at, d.action, (d.outcome or {}).get("status")) for d in made]


@pytest.mark.chaos
@pytest.mark.timeout(2 * SECONDS)
def test_killing_steward_and_monitor_changes_no_decision(
    tmp_path: Path, write_two_weeks: Callable[..., Path], free_port: int
) -> None:
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    calm.mkdir()
    wild.mkdir()
    # The first model is trained in both from the same rows with the same seed.
    undisturbed = write_two_weeks(calm, f"serving.port={free_port}")
    process = start(undisturbed, calm / "log")
    expected = finish_job(process, calm / "log", SECONDS)

    disturbed = write_two_weeks(wild, f"serving.port={free_port}")
    process, draw, num_kills = start(disturbed, wild / "log"), random.Random(7), 0
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(draw.uniform(2, 12))
        if process.poll() is None and num_kills < 8:
            num_kills += kill_one(process.pid, draw)
    got = finish_job(process, wild / "log", SECONDS)

    assert num_kills >= 4
    assert decisions(disturbed) == decisions(undisturbed)
    assert (expected["failed"], got["failed"]) == (0, 0)
    assert got["auc"] == expected["auc"]

"""The README tells the truth: its links lead somewhere, its commands work on two weeks of flights.

The commands are run as they stand, in their order and in one workspace; only the configuration, the
workspace, the port and the end of the history are replaced.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SECONDS = 900
READY_SECONDS = 240
RESIDENT_JOBS = ("jobs.deploy", "jobs.operate")


def commands() -> list[str]:
    """The lines of every fenced `sh` block."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def job_commands() -> list[str]:
    return [line for line in commands() if line.startswith("python -m jobs.")]


def test_it_shows_two_commands_to_start_and_six_to_work_with() -> None:
    assert [line for line in commands() if line.startswith("make ")] == [
        "make demo",
        "make demo-year",
    ]
    assert len(job_commands()) == 6
    assert len(commands()) == 8


def test_every_make_target_that_documents_name_exists() -> None:
    texts = README + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"\bmake ((?:demo|test|check|bench|notebook)[a-z-]*)", texts))
    makefile = (ROOT / "Makefile").read_text()
    assert len(named) >= 4
    assert {target for target in named if f"\n{target}: " not in makefile} == set()


def test_make_alone_lists_every_target() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "demo-year", "test", "check", "test-all", "bench", "bench-NAME"):
        assert f"make {target} " in shown


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", "docs/adr/README.md"])
def test_links_lead_to_files_that_exist(file: str) -> None:
    page = ROOT / file
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert {link for link in links if not (page.parent / link).exists()} == set()


def test_every_record_of_a_choice_is_listed() -> None:
    folder = ROOT / "docs" / "adr"
    listed = set(re.findall(r"\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text()))
    assert listed == {file.name for file in folder.glob("0*.md")}
    assert len(listed) >= 8


def as_a_person(folder: Path) -> dict[str, str]:
    """The environment of somebody who activated the venv: none of what the tests set for Ray."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    mine["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{mine['PATH']}"
    return mine | {"HOME": str(folder), "PYTHONUNBUFFERED": "1"}


def run(command: str, folder: Path) -> dict[str, Any]:
    """Run one command of the README and return the JSON record that it ends with."""
    done = subprocess.run(
        shlex.split(command),
        cwd=ROOT,
        env=as_a_person(folder),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def stays_up(command: str, folder: Path, url: str) -> None:
    """Run a command that stays in the foreground until its endpoint is ready, then interrupt it."""
    log = folder / "resident.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            shlex.split(command), cwd=ROOT, env=as_a_person(folder), stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not answers(url):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(1)
        process.send_signal(signal.SIGINT)
        process.wait(90)
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.end_to_end
@pytest.mark.timeout(1800)
def test_the_six_commands_work_one_after_the_other(
    tmp_path: Path, write_two_weeks: Callable[..., Path], free_port: int
) -> None:
    config = write_two_weeks(tmp_path, f"serving.port={free_port}")
    records: dict[str, dict[str, Any]] = {}
    for line in job_commands():
        command = line.replace("configs/flights.yaml", str(config))
        command = command.replace(".mainspring", str(tmp_path))
        command = command.replace("2013-04-01", "2013-01-11")
        job = command.split()[2]
        if job == "jobs.score":
            write_rows(config, tmp_path / "rows.parquet")
        if job in RESIDENT_JOBS:
            stays_up(command, tmp_path, f"http://127.0.0.1:{free_port}/readyz")
        else:
            records[job] = run(command, tmp_path)

    loop = records["jobs.loop"]
    assert loop["failed"] == 0
    assert loop["requests"] > 0
    assert set(loop["auc"]) == {"static", "last3", "all", "loop"}
    # The replay's history is in already: a repeat adds nothing.
    assert records["jobs.ingest"]["num_in"] == 0
    champion = records["jobs.status"]["roles"]["champion"]
    assert records["jobs.train"]["version"]["digest"] != champion
    scores = pq.read_table(tmp_path / "scores")
    assert scores.num_rows == pq.read_metadata(tmp_path / "rows.parquet").num_rows
    assert scores["version"].unique().to_pylist() == [champion]
    assert scores["probability"].null_count == 0


def write_rows(config: Path, file: Path) -> None:
    """Write some of the ingested rows to a file, as somebody would who has rows of their own."""
    from app.config import load_config
    from app.data.tables import open_tables

    settings = load_config(config)
    rows = open_tables(settings).read("events")
    # Rows of the history: a row that was asked for twice stands twice in the log.
    history = rows.filter(pc.starts_with(rows["source"], "ingest:"))
    pq.write_table(history.slice(0, 500).select(settings.contract.schema.names), file)

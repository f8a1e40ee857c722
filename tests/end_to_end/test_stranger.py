"""A stranger's start: from a CSV to an authenticated prediction, with the product's own commands.

Three tables that come with Python packages: the passengers of the Titanic (bokeh_sampledata, public
domain: names of people, no id, no time), penguins (palmerpenguins, CC0: dates, gaps, an entity) and
an election study (statsmodels, public domain: tabs between the cells, quotes in the names).
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 40
SECONDS = 1700


class Stranger(NamedTuple):
    """A table that the product has never seen, and what somebody asks of it."""

    package: str
    path: str
    label: str
    options: tuple[str, ...] = ()
    secret: str = ""
    """A personal value of the table that may be nowhere in the workspace."""


TABLES = {
    "passengers": Stranger(
        "bokeh_sampledata", "_data/titanic_all.csv", "survived", secret="Elisabeth Walton"
    ),
    "penguins": Stranger("palmerpenguins", "data/penguins-raw.csv", "sex", ("--positive", "MALE")),
    "voters": Stranger("statsmodels", "datasets/anes96/anes96.csv", "vote"),
}


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def job(folder: Path, *words: str) -> dict[str, Any]:
    """Run a job as a person does; return its record."""
    command = [sys.executable, "-m", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


@contextlib.contextmanager
def started(folder: Path, config: str, port: int) -> Iterator[dict[str, Any]]:
    """Start a model as a person does, until the test is over; give the job's record."""
    command = [sys.executable, "-m", "jobs.start", "--config", config]
    command += ["--set", f"serving.port={port}"]
    log = (folder / "log.txt").open("w")
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "log.txt").read_text()
        yield json.loads(line)
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(120)
        process.kill()
        process.wait()
        log.close()


def ask(curl: str, port: int, key: str | None) -> httpx.Response:
    """Send what the printed command sends, with the key in the variable that it names."""
    words = shlex.split(curl.replace("\\\n", " "))
    url = next(word for word in words if word.startswith("http")).replace(":8000/", f":{port}/")
    lines = [words[i + 1] for i, word in enumerate(words) if word == "-H"]
    headers = dict(line.replace("$MAINSPRING_KEY", key or "").split(": ", 1) for line in lines)
    if key is None:
        headers.pop("Authorization")
    return httpx.post(url, content=words[words.index("-d") + 1], headers=headers, timeout=60)


@pytest.mark.end_to_end
@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("name", TABLES)
def test_a_table_becomes_an_authenticated_prediction(
    name: str, tmp_path: Path, free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = TABLES[name]
    spec = find_spec(stranger.package)
    assert spec is not None
    assert spec.origin is not None
    shutil.copy(Path(spec.origin).parent / stranger.path, tmp_path / f"{name}.csv")
    began = time.monotonic()

    asked = ["--from", f"{name}.csv", "--label", stranger.label, *stranger.options]
    proposed = job(tmp_path, "jobs.init", *asked)
    with started(tmp_path, proposed["config"], free_port) as record:
        first = ask(proposed["curl"], free_port, proposed["key"])
        minutes = (time.monotonic() - began) / 60
        stranger_s = ask(proposed["curl"], free_port, None)
        wrong = ask(proposed["curl"], free_port, proposed["key"][:-2] + "AA")

    assert first.status_code == 200, first.text
    assert 0 <= first.json()["predictions"][0]["probability"] <= 1
    assert first.json()["version"] == record["version"]
    assert (stranger_s.status_code, wrong.status_code) == (401, 401)
    assert record["rows"] == proposed["rows"] == proposed["accepted"]
    assert record["quarantined"] == 0
    assert proposed["lines"] <= MAX_LINES
    again = job(tmp_path, "jobs.ingest", "--config", proposed["config"])
    assert (again["num_in"], again["num_labels_in"]) == (0, 0)
    if stranger.secret:
        files = [file for file in (tmp_path / ".mainspring").rglob("*") if file.is_file()]
        assert not [file for file in files if stranger.secret.encode() in file.read_bytes()]
    with capsys.disabled():
        told = f"{proposed['rows']} rows, {proposed['lines']} lines of YAML, {minutes:.1f} minutes"
        sys.stdout.write(f"\n{name}: {told}\n")

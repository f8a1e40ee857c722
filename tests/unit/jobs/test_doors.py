"""Jobs for binary models refuse another task before they start anything."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from app.config import Config
from app.serving.application import compose
from app.serving.replica import Replica
from jobs import deploy, init, loop, monitor, operate, rehearse, start

DOCUMENT = {
    "name": "trips",
    "clock": "driven",
    "source": {"kind": "parquet", "events": "none.parquet"},
    "contract": {
        "id": "trip",
        "event_time": "leaves",
        "label": "minutes",
        "task": "regression",
        "columns": [
            {"name": "trip", "kind": "identifier", "feature": False},
            {"name": "leaves", "kind": "time"},
        ],
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "trips.yaml"
    file.write_text(yaml.safe_dump({**DOCUMENT, "workspace": str(tmp_path / "workspace")}))
    return file


def run(main: Callable[..., None], *words: str) -> tuple[int, str]:
    application = typer.Typer(add_completion=False)
    application.command()(main)
    done = CliRunner().invoke(application, list(words))
    return done.exit_code, done.output


@pytest.mark.parametrize("job", [deploy, loop, monitor, operate, rehearse, start])
def test_a_job_for_binary_models_says_what_works_for_another(file: Path, job: object) -> None:
    code, said = run(job.main, "--config", str(file))  # type: ignore[attr-defined]
    assert code == 2
    assert "works for binary models only, got regression" in " ".join(said.split())
    assert "use jobs.ingest, jobs.train and jobs.score" in " ".join(said.split())
    assert not (file.parent / "workspace").exists()


def test_no_replica_answers_for_another_task(file: Path) -> None:
    config = Config.model_validate({**DOCUMENT, "workspace": file.parent / "workspace"})
    with pytest.raises(ValueError, match="serving works for binary models only"):
        compose(config)
    with pytest.raises(ValueError, match="serving works for binary models only"):
        Replica(config, wall=lambda: 0.0, steady=lambda: 0.0)


def test_a_table_of_numbers_becomes_a_configuration_and_the_commands_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"{i % 7},{i * 37 % 501}.5" for i in range(300)]
    (tmp_path / "trips.csv").write_text("rain,minutes\n" + "\n".join(lines) + "\n")
    code, said = run(init.main, "--from", "trips.csv", "--label", "minutes")
    assert code == 0
    record = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    assert (record["task"], record["key"], record["curl"]) == ("regression", None, None)
    assert (record["rows"], record["accepted"]) == (300, 300)
    for job in ("train", "score"):
        assert f"python -m jobs.{job} --config configs/trips.yaml" in said
    assert "jobs.start" not in said

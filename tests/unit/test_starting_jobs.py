"""jobs.init and jobs.keys as a person runs them; jobs.start says why there is no first model."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from app.config import load_config
from app.console.status import DecisionStatus, Status
from app.contracts.records import Roles
from app.security.access import AccessDenied, Keyring
from jobs.init import decide
from jobs.start import NoFirstModel, _refuse_hopeless

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime.now(UTC)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    chance = np.random.default_rng(2)
    outcomes = ["bad", "good", "good"]
    lines = [f"{chance.normal():.9f};{'ab'[i % 2]};{outcomes[i % 3]}" for i in range(300)]
    file = tmp_path / "2024 Loans.csv"
    file.write_text("Amount;Kind;Outcome\n" + "\n".join([*lines, *lines[:5]]) + "\n")
    return file


def test_a_table_becomes_a_file_a_key_and_the_next_commands(table: Path) -> None:
    folder = table.parent
    done = run(folder, "jobs.init", "--from", table.name, "--label", "outcome")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    config = load_config(folder / record["config"], [f"workspace={folder / '.mainspring/w'}"])

    assert (config.name, record["lines"] <= 40) == ("m-2024-loans", True)
    assert config.serving.authentication == "keys"
    assert config.source.inline is not None
    assert config.source.inline.positive == ("bad",)
    assert (record["rows"], record["accepted"]) == (305, 305)
    keyring = Keyring(folder / ".mainspring" / "m-2024-loans")
    assert keyring.authenticate(record["key"], NOW).roles == ("predict", "label")
    assert done.stderr.count(record["key"]) == 1
    assert f"python -m jobs.start --config {record['config']}" in done.stderr
    assert record["key"] not in (folder / record["config"]).read_text()

    again = run(folder, "jobs.init", "--from", table.name, "--label", "outcome")
    assert again.returncode == 2
    assert "add --force" in again.stderr
    forced = run(folder, "jobs.init", "--from", table.name, "--label", "outcome", "--force")
    assert forced.returncode == 0
    with pytest.raises(AccessDenied):
        keyring.authenticate(record["key"], NOW)


def test_a_mistake_is_one_line_that_says_what_to_do(table: Path) -> None:
    for words, said in (
        (["--from", "none.csv", "--label", "y"], "none.csv: no such file"),
        (["--from", table.name, "--label", "outcom"], "did you mean Outcome?"),
        (["--from", table.name, "--label", "Amount", "--task", "binary"], "labels are binary"),
    ):
        done = run(table.parent, "jobs.init", *words)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert not (table.parent / "configs").exists()


def test_equal_rows_are_told_apart_by_their_place(table: Path) -> None:
    proposal, _, trial = decide(table, "Outcome", "loans", [])
    assert proposal.inline.generated_id == "position"
    assert trial.num_accepted == 305
    table.write_text("\n".join(table.read_text().splitlines()[:301]) + "\n")
    proposal, _, trial = decide(table, "Outcome", "loans", [])
    assert proposal.inline.generated_id == "content"
    assert trial.num_accepted == 300


def test_keys_are_made_listed_and_revoked(table: Path) -> None:
    run(table.parent, "jobs.init", "--from", table.name, "--label", "outcome", "--name", "loans")
    config = ["--config", "configs/loans.yaml"]
    made = run(table.parent, "jobs.keys", "create", *config, "--name", "desk", "--roles", "audit")
    key = json.loads(made.stdout)["key"]
    listed = run(table.parent, "jobs.keys", "list", *config)
    assert [item["name"] for item in json.loads(listed.stdout)["keys"]] == ["first", "desk"]
    assert key not in listed.stdout + listed.stderr
    assert run(table.parent, "jobs.keys", "revoke", *config, "--name", "desk").returncode == 0
    with pytest.raises(AccessDenied):
        Keyring(table.parent / ".mainspring" / "loans").authenticate(key, NOW)


def status(action: str, outcome: str, phase: str = "observe") -> Status:
    decision = DecisionStatus(
        key="m-0001", at=NOW, action=action, cause=None, reasons=("AUC 0.51",), outcome=outcome
    )
    return Status.model_validate(
        {"model": "m", "now": NOW, "watermark": NOW, "roles": Roles(model="m", generation=0),
         "phase": phase, "decisions": (decision,), "steward_doing": "observing: waiting"}
    )  # fmt: skip


def test_a_first_model_that_was_refused_or_failed_ends_the_waiting_with_the_reason() -> None:
    with pytest.raises(NoFirstModel, match=r"refused the first model: AUC 0\.51; see loop\.gate"):
        _refuse_hopeless(status("refuse", "done"))
    with pytest.raises(NoFirstModel, match="retrain failed: no rows"):
        _refuse_hopeless(status("retrain", "no rows"))
    _refuse_hopeless(status("retrain", "under way"))
    _refuse_hopeless(status("gate", "done", phase="promote"))

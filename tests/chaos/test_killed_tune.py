"""Kill the driver of a search while trials run: the same command goes on, and repeats nothing."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from app.config import Config, load_config, show_config
from app.sections.tuning import TuningConfig
from app.training.study import TrialRecord, Trials
from tests.job_process import finish_job, start_job
from tests.learning_world import END, fill_tables, make_config, make_rows

SECONDS = 600
SPACE = {
    "training.learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "features.num_bins": {"integer": [4, 8]},
}

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def start(file: Path, log: Path) -> subprocess.Popen[str]:
    until = f"{END:%Y-%m-%dT%H:%M:%S}"
    return start_job("tune", file, log, "--run", "search", "--until", until, "--no-tracking")


def make_search(folder: Path) -> Config:
    """Write tables and a configuration whose trials are long enough to be interrupted."""
    config = make_config(folder / "workspace", epochs=40, patience=40, batch_rows=16, refit=False)
    tuning = {"space": SPACE, "num_trials": 5, "max_concurrent": 2, "asha": None}
    cluster = config.cluster.model_copy(update={"num_cpus": 2, "dashboard": False})
    return config.model_copy(
        update={"tuning": TuningConfig.model_validate(tuning), "cluster": cluster}
    )


def is_midway(records: tuple[TrialRecord, ...]) -> bool:
    """Tell whether one trial has ended and another has told some of its epochs."""
    under_way = [record for record in records if record.state == "unfinished"]
    return any(r.state == "complete" for r in records) and any(len(r.epochs) > 2 for r in under_way)


def kill_midway(process: "subprocess.Popen[str]", config: Config) -> tuple[TrialRecord, ...]:
    """Kill a driver once a trial has ended and another is under way; give what was kept."""
    folder = config.workspace / "runs" / "search"
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.2)
        assert process.poll() is None, "the search ended before it could be killed"
        # Written after the first trial: the study is not opened while it is being made.
        if not (folder / "trials.json").exists():
            continue
        if is_midway(Trials(folder, config.tuning).records()):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return Trials(folder, config.tuning).records()
    process.kill()
    raise AssertionError(f"no trial ended within {SECONDS} s")


def test_a_search_whose_driver_was_killed_goes_on(tmp_path: Path) -> None:
    config = make_search(tmp_path)
    fill_tables(config, make_rows())
    file = tmp_path / "orders.yaml"
    file.write_text(show_config(config))
    before = kill_midway(start(file, tmp_path / "first.log"), config)

    log = tmp_path / "second.log"
    told = finish_job(start(file, log), log, SECONDS)
    assert (told["num_trials"], told["num_complete"]) == (5, 5)
    after = Trials(config.workspace / "runs" / "search", config.tuning).records()
    for one, same in zip(before, after[: len(before)], strict=True):
        # What ended is as it was; what was under way went on with its own settings and epochs.
        assert same.values == one.values
        assert same.epochs[: len(one.epochs)] == one.epochs
        assert one.state == "unfinished" or same == one
    assert all(len(record.epochs) == 40 for record in after)
    assert told["best_loss"] == min(record.loss for record in after if record.loss is not None)
    best = load_config(told["files"]["best.yaml"])
    assert best.features.num_bins == told["best_settings"]["features.num_bins"]
    assert best.workspace == config.workspace

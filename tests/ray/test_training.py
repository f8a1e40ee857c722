"""Training on Ray Train: the same bundle as in process, resumable, idempotent by the run's name."""

import json
import os
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from app.config import Config
from app.contracts.records import DatasetVersion, TrainingResult
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.tables import open_tables
from app.model.bundle import ModelBundle
from app.registry.artifacts import Artifacts
from app.sections import TreesConfig
from app.training import train as shell
from app.training.again import find_original, repeat
from app.training.assembly import fit_in_process
from app.training.plans import find_plan, read_circumstances, run_folder
from app.training.train import train
from tests.learning_world import CONTRACT, END, START, fill_tables, make_config, make_rows

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def snapshot(config: Config) -> DatasetVersion:
    tables = fill_tables(config, make_rows())
    return take_snapshot(tables, CONTRACT, START, END, END)


def test_one_worker_makes_the_bundle_that_this_process_makes(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    dataset = snapshot(config)
    result = train(config, dataset, "first", END)
    stored = ModelBundle.load(Artifacts(config.artifacts_path).path(result.version.digest))
    table = load_snapshot(open_tables(config), CONTRACT, dataset)
    local = fit_in_process(config, table, dataset.end)
    assert stored.encoder.to_json() == local.bundle.encoder.to_json()
    np.testing.assert_allclose(stored.predict(table), local.bundle.predict(table), atol=1e-6)
    assert result.version.held_out_days == local.window.held_out_days
    assert result.version.dataset == dataset
    assert result.num_epochs == len(local.state.epochs)

    # The same name again is the same run: nothing is trained, also in another process.
    assert train(config, dataset, "first", END) == result
    other = dataset.model_copy(update={"digest": "0" * 32})
    with pytest.raises(ValueError, match="another name"):
        train(config, other, "first", END)
    with pytest.raises(ValueError, match="other settings"):
        train(make_config(tmp_path, epochs=2), dataset, "first", END)


def test_killed_workers_cost_no_epoch_and_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path, epochs=4, patience=4, min_epochs=4)
    dataset = snapshot(config)
    undisturbed = train(config, dataset, "undisturbed", END)
    log = tmp_path / "epochs"
    monkeypatch.setattr(shell, "train_loop", _DiesAfterTwoEpochs(log))
    disturbed = train(config, dataset, "disturbed", END)
    assert log.read_text().split("\n")[:-1] == [
        *("search 1", "search 2", "killed", "search 3", "search 4"),
        *("refit 1", "refit 2", "killed", "refit 3", "refit 4"),
    ]
    assert disturbed.num_epochs == 4
    weights = [
        (
            Artifacts(config.artifacts_path).path(r.version.digest) / "weights.safetensors"
        ).read_bytes()
        for r in (undisturbed, disturbed)
    ]
    assert weights[0] == weights[1]
    assert find_plan(config, "disturbed").dataset == dataset


def test_two_workers_share_the_rows_and_are_bit_equal_again(tmp_path: Path) -> None:
    config = make_config(
        tmp_path, num_workers=2, cpus_per_worker=0.5, epochs=6, patience=6, learning_rate=1e-2
    )
    result = train(config, snapshot(config), "pair", END)
    assert result.version.evaluation.roc_auc.value > 0.65
    assert (run_folder(config, "pair") / "result.json").exists()
    circumstances = read_circumstances(config, "pair")
    assert [worker.rank for worker in circumstances.workers] == [0, 1]
    assert all(worker.arithmetic.threads == 1 for worker in circumstances.workers)
    assert result.version.circumstances == circumstances.digest

    found = repeat(find_original(config, "pair"), "pair-repeat", END, train_again)
    assert (found.verdict, found.bundle_equal) == ("bit-equal", True), found.reasons
    # Each worker had every other row, so that none is left out.
    card = Artifacts(config.artifacts_path).path(result.version.digest) / "card.json"
    facts = json.loads(card.read_bytes())
    assert facts["epochs"][0]["num_rows"] == facts["num_train_rows"]


def test_another_thread_is_named_where_a_run_is_made_again(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    train(config, snapshot(config), "first", END)
    same = repeat(find_original(config, "first"), "same", END, train_again)
    assert (same.verdict, same.as_expected, same.bundle_equal) == ("bit-equal", True, True)
    original = find_original(config, "first", ["training.threads_per_worker=2"])
    other = repeat(original, "threads", END, train_again)
    named = {each.name: (each.first, each.second) for each in other.differences}
    assert named["training.threads_per_worker"] == ("1", "2")
    assert named["threads (worker 0)"] == ("1", "2")
    assert (other.expected, other.as_expected) == ("within tolerance", True)


def test_a_run_that_diverges_says_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "MAX_FAILURES", 0)
    config = make_config(tmp_path, learning_rate=1e30)
    with pytest.raises(shell.RunFailed, match=r"run wild failed .*lower training\.learning_rate"):
        train(config, snapshot(config), "wild", END)
    assert not (run_folder(config, "wild") / "result.json").exists()


@pytest.mark.parametrize("run", ["../elsewhere", "", "a/b", ".hidden"])
def test_a_run_name_cannot_lead_out_of_the_workspace(tmp_path: Path, run: str) -> None:
    with pytest.raises(ValueError, match="run name"):
        run_folder(make_config(tmp_path), run)


def train_again(
    config: Config, dataset: DatasetVersion, run: str, at: datetime, reductions: Any
) -> TrainingResult:
    return train(config, dataset, run, at, reductions=reductions)


class _DiesAfterTwoEpochs:
    """Run the real loop, and kill its process when a stage's second epoch is stored."""

    __name__ = "train_loop"

    def __init__(self, log: Path) -> None:
        self._log = str(log)

    def __call__(self, settings: dict[str, Any]) -> None:
        from app.training import loop

        report = ray.train.report

        def report_and_die(metrics: dict[str, Any], **rest: Any) -> None:
            report(metrics, **rest)
            with Path(self._log).open("a") as log:
                log.write(f"{metrics['stage']} {metrics['number']}\n")
                if metrics["number"] != 2:
                    return
                ray.train.get_all_reported_checkpoints()  # Returns when they are safe.
                log.write("killed\n")
            os.kill(os.getpid(), signal.SIGKILL)

        loop.ray.train.report = report_and_die
        try:
            loop.train_loop(settings)
        finally:
            loop.ray.train.report = report


@pytest.mark.parametrize("num_workers", [1, 2])
def test_trees_grow_on_workers(tmp_path: Path, num_workers: int) -> None:
    config = make_config(
        tmp_path,
        model="trees",
        trees=TreesConfig(trees_per_epoch=5, max_depth=3),
        num_workers=num_workers,
        cpus_per_worker=0.5,
    )
    dataset = snapshot(config)
    result = train(config, dataset, "trees", END)
    stored = ModelBundle.load(Artifacts(config.artifacts_path).path(result.version.digest))
    table = load_snapshot(open_tables(config), CONTRACT, dataset)
    local = fit_in_process(config, table, dataset.end)
    # Two workers draw other shares of the rows.
    tolerance = 1e-6 if num_workers == 1 else 0.2
    np.testing.assert_allclose(stored.predict(table), local.bundle.predict(table), atol=tolerance)

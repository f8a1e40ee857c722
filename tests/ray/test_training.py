"""Training on Ray Train: the same bundle as in process, resumable, idempotent by the run's name."""

import json
import os
import re
import resource
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from app.config import Config, show_config
from app.contracts.records import DatasetVersion, TrainingResult
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.tables import open_tables
from app.ledger.database import open_ledger
from app.model.bundle import ModelBundle
from app.registry.artifacts import Artifacts
from app.registry.store import list_versions
from app.sections import TreesConfig
from app.training import train as shell
from app.training.again import find_original, repeat
from app.training.assembly import fit_in_process
from app.training.needs import RunFailed
from app.training.plans import find_plan, read_circumstances, run_folder
from app.training.state import FitState
from app.training.train import train
from jobs.train import main
from tests.learning_world import CONTRACT, END, START, fill_tables, make_config, make_rows
from tests.progress_world import Heard

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def snapshot(config: Config) -> DatasetVersion:
    tables = fill_tables(config, make_rows())
    return take_snapshot(tables, CONTRACT, START, END, END)


def weights(config: Config, result: TrainingResult) -> bytes:
    folder = Artifacts(config.artifacts_path).path(result.version.digest)
    return (folder / "weights.safetensors").read_bytes()


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

    # Trained without a worker it has the same weights, and the settings count as the same.
    here = train(make_config(tmp_path, placement="in_process"), dataset, "here", END)
    assert here.version.config_digest == result.version.config_digest
    assert weights(config, here) == weights(config, result)

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
    assert weights(config, undisturbed) == weights(config, disturbed)
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


def test_a_full_disk_ends_the_run_and_the_same_command_goes_on_with_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path)
    dataset = snapshot(config)
    log = tmp_path / "starts"
    monkeypatch.setattr(shell, "train_loop", _HasNoRoomAfterOneEpoch(log))
    with pytest.raises(RunFailed, match=r"runs/full could not be written: .*make room"):
        train(config, dataset, "full", END)
    folder = run_folder(config, "full")
    assert log.read_text() == "started\n"
    assert [len(path.name) for path in folder.glob("epoch_*")] == [len("epoch_00001_12345678")]
    assert not (folder / "result.json").exists()

    monkeypatch.setattr(shell, "train_loop", _TellsItsStarts(log))
    went_on = Heard()
    result = train(config, dataset, "full", END, watch=went_on)
    assert went_on.records[0].num_before == 1
    roomy = train(config, dataset, "roomy", END)
    assert weights(config, result) == weights(config, roomy)


def test_as_many_workers_as_find_room_train_and_the_epochs_say_how_many(tmp_path: Path) -> None:
    config = make_config(tmp_path, num_workers=1, max_workers=2, cpus_per_worker=0.5)
    result = train(config, snapshot(config), "elastic", END)
    card = Artifacts(config.artifacts_path).path(result.version.digest) / "card.json"
    sizes = {epoch.get("num_workers", 1) for epoch in json.loads(card.read_bytes())["epochs"]}
    assert sizes == {2}


def test_more_than_the_cluster_has_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    config = make_config(tmp_path, num_workers=99)
    heard = Heard()
    with pytest.raises(ValueError, match=r"99 worker\(s\) with 1 CPU each, got nodes with 4"):
        train(config, snapshot(config), "huge", END, watch=heard)
    assert heard.phases == []


def test_a_run_that_diverges_is_tried_once_and_leaves_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "starts"
    monkeypatch.setattr(shell, "train_loop", _TellsItsStarts(log))
    config = make_config(tmp_path, learning_rate=1e30)
    file = tmp_path / "orders.yaml"
    file.write_text(show_config(config))
    snapshot(config)
    with pytest.raises(typer.Exit) as ended:
        main(file, start=START, until=END, run="wild", tracking=False)
    assert ended.value.exit_code == 2
    told = capsys.readouterr().err
    assert re.search(r"run wild: training diverged: .* batch \d+ of \d+ of worker 0", told)
    assert "lower training.learning_rate, got 1e+30; nothing was stored" in told
    assert log.read_text() == "started\n"
    assert not (run_folder(config, "wild") / "result.json").exists()
    assert not config.artifacts_path.exists()
    assert list_versions(open_ledger(config.ledger_url), config.name) == []


@pytest.mark.parametrize("run", ["../elsewhere", "", "a/b", ".hidden"])
def test_a_run_name_cannot_lead_out_of_the_workspace(tmp_path: Path, run: str) -> None:
    with pytest.raises(ValueError, match="run name"):
        run_folder(make_config(tmp_path), run)


class _TellsItsStarts:
    """Run the real loop, and write down that it began."""

    __name__ = "train_loop"

    def __init__(self, log: Path) -> None:
        self._log = str(log)

    def __call__(self, settings: dict[str, Any]) -> dict[str, str] | None:
        from app.training import loop

        with Path(self._log).open("a") as log:
            log.write("started\n")
        return loop.train_loop(settings)


class _HasNoRoomAfterOneEpoch(_TellsItsStarts):
    """Run the real loop in a process that may write no large file after the first checkpoint."""

    def __call__(self, settings: dict[str, Any]) -> dict[str, str] | None:
        from app.training import loop

        save = loop.Checkpoints.save

        def save_or_fail(self: loop.Checkpoints, state: FitState) -> None:
            if state.latest.number == 2:
                assert self.failure() is None
                _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
            save(self, state)

        loop.Checkpoints.save = save_or_fail
        try:
            return super().__call__(settings)
        finally:
            loop.Checkpoints.save = save


def train_again(
    config: Config, dataset: DatasetVersion, run: str, at: datetime, reductions: Any
) -> TrainingResult:
    return train(config, dataset, run, at, reductions=reductions)


class _DiesAfterTwoEpochs:
    """Run the real loop, and kill its process when a stage's second epoch is stored."""

    __name__ = "train_loop"

    def __init__(self, log: Path) -> None:
        self._log = str(log)

    def __call__(self, settings: dict[str, Any]) -> dict[str, str] | None:
        from app.training import loop

        save = loop.Checkpoints.save

        def save_and_die(self: loop.Checkpoints, state: FitState) -> None:
            save(self, state)
            with Path(self_log).open("a") as log:
                log.write(f"{state.stage} {state.latest.number}\n")
                if state.latest.number != 2:
                    return
                assert self.failure() is None
                log.write("killed\n")
            os.kill(os.getpid(), signal.SIGKILL)

        self_log = self._log
        loop.Checkpoints.save = save_and_die
        try:
            return loop.train_loop(settings)
        finally:
            loop.Checkpoints.save = save


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

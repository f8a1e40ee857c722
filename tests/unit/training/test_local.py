"""Training in the process that was asked: resumable, and where it may be done at all."""

import shutil
from pathlib import Path

import pytest
import torch

from app.config import Config
from app.contracts.records import DatasetVersion
from app.data.features import Encoder, Statistics
from app.data.snapshots import take_snapshot
from app.model.bundle import ModelBundle
from app.registry.artifacts import Artifacts
from app.training import local
from app.training.local import fit_here, is_in_process
from app.training.plans import run_folder
from app.training.progress import read_progress
from app.training.state import FitState
from app.training.train import train
from app.training.window import Window, open_window
from tests.learning_world import CONTRACT, END, START, fill_tables, make_config, make_rows


def opened(config: Config) -> tuple[Window, Encoder]:
    window = open_window(config, make_rows(), END)
    statistics = Statistics.collect(window.train, config.contract)
    return window, Encoder.fit(statistics, config.features)


def assert_equal(one: FitState, other: FitState) -> None:
    assert (one.epochs, one.refit_epochs) == (other.epochs, other.refit_epochs)
    for name, tensor in one.final.items():
        assert torch.equal(tensor, other.final[name]), name


def test_a_run_that_was_cut_off_goes_on_from_its_last_whole_checkpoint(tmp_path: Path) -> None:
    config = make_config(tmp_path, min_epochs=3)
    window, encoder = opened(config)
    (tmp_path / "whole").mkdir()
    first = fit_here(config, window, encoder, "rows", tmp_path / "whole")
    state = first.state
    *_, last = kept = sorted((tmp_path / "whole").glob("epoch_*"))
    assert [place.name[:11] for place in kept] == ["epoch_00005", "epoch_00006"]
    assert first.rows_per_second > 0
    assert [worker.rank for worker in first.workers] == [0]
    # As a death in the last epoch leaves it, and as one in the middle of writing does.
    (last / "tensors.safetensors").write_bytes(b"torn")
    again = fit_here(config, window, encoder, "rows", tmp_path / "whole")
    assert_equal(again.state, state)
    assert again.workers == first.workers
    shutil.rmtree(sorted((tmp_path / "whole").glob("epoch_*"))[-1])
    again = fit_here(config, window, encoder, "rows", tmp_path / "whole")
    assert_equal(again.state, state)
    # Finished, it is read and not trained again.
    again = fit_here(config, window, encoder, "rows", tmp_path / "whole")
    assert_equal(again.state, state)
    assert again.rows_per_second == 0
    with pytest.raises(ValueError, match="another name"):
        fit_here(config, window, encoder, "other rows", tmp_path / "whole")


def test_the_callers_number_of_threads_comes_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    with local._as_a_worker(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_a_run_without_a_cluster_makes_a_version_and_is_idempotent(tmp_path: Path) -> None:
    config = make_config(tmp_path, placement="in_process")
    dataset = take_snapshot(fill_tables(config, make_rows()), CONTRACT, START, END, END)
    result = train(config, dataset, "here", END)
    assert result.num_epochs == 3
    assert read_progress(run_folder(config, "here")).done_share == 1
    ModelBundle.load(Artifacts(config.artifacts_path).path(result.version.digest))
    assert train(config, dataset, "here", END) == result
    # Without its result the run is taken up again, and comes to the same version.
    (run_folder(config, "here") / "result.json").unlink()
    assert train(config, dataset, "here", END).version == result.version


@pytest.mark.parametrize(
    ("training", "num_rows", "here"),
    [
        ({}, 100, False),
        ({"placement": "in_process"}, 10**9, True),
        ({"placement": "auto"}, 1_000_000, True),
        ({"placement": "auto"}, 1_000_001, False),
        ({"placement": "auto", "num_workers": 2}, 100, False),
        ({"placement": "auto", "use_gpu": True}, 100, False),
    ],
)
def test_small_data_of_one_worker_needs_no_cluster(
    tmp_path: Path, training: dict[str, object], num_rows: int, here: bool
) -> None:
    dataset = DatasetVersion.model_construct(num_rows=num_rows)
    assert is_in_process(make_config(tmp_path, **training), dataset) is here


def test_two_workers_do_not_fit_into_a_process(tmp_path: Path) -> None:
    config = make_config(tmp_path, placement="in_process", num_workers=2)
    with pytest.raises(ValueError, match="set num_workers to 1"):
        is_in_process(config, DatasetVersion.model_construct(num_rows=1))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_asked_for_in_vain(tmp_path: Path) -> None:
    config = make_config(tmp_path, placement="in_process", use_gpu=True)
    window, encoder = opened(config)
    with pytest.raises(ValueError, match="torch sees no GPU"):
        fit_here(config, window, encoder, "rows", tmp_path / "checkpoints")

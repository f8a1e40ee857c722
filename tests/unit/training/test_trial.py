"""One trial in one process: told epoch by epoch, resumed from its last complete checkpoint."""

from pathlib import Path

import pytest

from app.config import Config
from app.training.space import trial_config
from app.training.state import Epoch
from app.training.trial import EncodedRows, Material, last_state, run_trial
from app.training.window import open_window
from tests.learning_world import END, make_config, make_rows


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return trial_config(make_config(tmp_path, epochs=4, patience=4), {})


def run(config: Config, folder: Path, kill_at: int = 0) -> list[Epoch]:
    """Run a trial; with `kill_at`, its process ends after it told that epoch for the first time."""
    encoded = EncodedRows(open_window(config, make_rows(), END))
    encoder = encoded.encoder(config.features)
    told: list[Epoch] = []

    def tell(epoch: Epoch, seconds: float) -> None:
        told.append(epoch)
        if epoch.number == kill_at and seconds:
            raise Killed

    material = Material(encoder.shape, encoded.task, *encoded.rows(encoder))
    if kill_at:
        with pytest.raises(Killed):
            run_trial(config, material, folder, "trial", tell)
    else:
        run_trial(config, material, folder, "trial", tell)
    return told


def test_a_killed_trial_tells_the_same_losses_as_one_left_alone(
    config: Config, tmp_path: Path
) -> None:
    alone = run(config, tmp_path / "alone")
    assert [epoch.number for epoch in alone] == [1, 2, 3, 4]
    assert run(config, tmp_path / "killed", kill_at=2) == alone[:2]
    assert run(config, tmp_path / "killed") == alone
    # Nothing is left to do, and it is told once more.
    assert run(config, tmp_path / "killed") == alone


def test_a_torn_checkpoint_is_passed_over(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    run(config, folder, kill_at=2)
    torn = folder / "epoch-00003"
    torn.mkdir()
    (torn / "state.json").write_bytes(b"{}")
    state = last_state(folder, "trial")
    assert state is not None
    assert len(state.epochs) == 2
    assert [epoch.number for epoch in run(config, folder)] == [1, 2, 3, 4]
    assert [path.name for path in folder.iterdir()] == ["epoch-00004"]


def test_a_checkpoint_of_another_trial_is_refused(config: Config, tmp_path: Path) -> None:
    run(config, tmp_path / "trial", kill_at=1)
    with pytest.raises(ValueError, match="other data or settings"):
        last_state(tmp_path / "trial", "another")

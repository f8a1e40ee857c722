"""Checkpoints: whole or not there, the one before in a torn one's place, a full disk told."""

import contextlib
import dataclasses
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from app.model.manifest import MANIFEST
from app.training.checkpoints import (
    ASIDE,
    KEPT,
    PREFIX,
    CheckpointFailed,
    Checkpoints,
    num_epochs,
    read_checkpoints,
)
from app.training.state import FitState
from tests.progress_world import states

STATES = states()


def save(folder: Path, *states: FitState, attempt: str = "one") -> list[Path]:
    """Write checkpoints one after the other; give their folders."""
    with Checkpoints(folder, "mine", attempt) as checkpoints:
        places = []
        for state in states:
            checkpoints.save(state)
            assert checkpoints.failure() is None
            places.append(checkpoints.last(state))
    return places


@contextlib.contextmanager
def no_file_beyond(num_bytes: int) -> Iterator[None]:
    """Let the system refuse what a full disk would refuse."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_gives_the_state_back_to_the_bit(tmp_path: Path) -> None:
    save(tmp_path, STATES[1])
    found = read_checkpoints(tmp_path, "mine")
    assert list(found) == [2]
    assert found[2].state.epochs == STATES[1].epochs
    for name, tensor in STATES[1].moments.items():
        assert torch.equal(found[2].state.moments[name], tensor), name


def test_what_goes_with_a_state_comes_back_with_it(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, "mine", "one", {"workers.json": b"[]"}) as checkpoints:
        checkpoints.save(STATES[0])
    assert read_checkpoints(tmp_path, "mine")[1].files["workers.json"] == b"[]"


def test_only_the_latest_are_kept(tmp_path: Path) -> None:
    places = save(tmp_path, *STATES)
    assert sorted(tmp_path.iterdir()) == places[-KEPT:]
    assert list(read_checkpoints(tmp_path, "mine")) == [
        num_epochs(STATES[-2]),
        num_epochs(STATES[-1]),
    ]


@pytest.mark.parametrize("tear", ["a file cut short", "no manifest", "a file missing", "empty"])
def test_the_one_before_stands_in_for_a_torn_one(tmp_path: Path, tear: str) -> None:
    _, newest = save(tmp_path, *STATES[:2])
    tensors = newest / "tensors.safetensors"
    if tear == "a file cut short":
        tensors.write_bytes(tensors.read_bytes()[:-100])
    elif tear == "no manifest":
        (newest / MANIFEST).unlink()
    elif tear == "a file missing":
        tensors.unlink()
    else:
        for file in newest.iterdir():
            file.unlink()
    assert list(read_checkpoints(tmp_path, "mine")) == [1]


def test_what_a_killed_process_left_half_written_is_forgotten(tmp_path: Path) -> None:
    save(tmp_path, STATES[0])
    half = tmp_path / f"{ASIDE}{PREFIX}00002_dead"
    half.mkdir()
    (half / "tensors.safetensors").write_bytes(b"half")
    assert list(read_checkpoints(tmp_path, "mine")) == [1]
    save(tmp_path, STATES[1], attempt="two")
    assert not half.exists()
    assert list(read_checkpoints(tmp_path, "mine")) == [1, 2]


def test_an_epoch_that_is_trained_again_after_a_kill_is_written_again(tmp_path: Path) -> None:
    first, again = save(tmp_path, STATES[0])[0], save(tmp_path, STATES[0], attempt="two")[0]
    assert first != again
    assert list(read_checkpoints(tmp_path, "mine")) == [1]


def test_a_full_disk_is_told_with_the_folder_and_the_need_and_harms_no_other(
    tmp_path: Path,
) -> None:
    save(tmp_path, STATES[0])
    with Checkpoints(tmp_path, "mine", "two") as checkpoints, no_file_beyond(2000):
        checkpoints.save(STATES[1])
        told = str(checkpoints.failure())
        with pytest.raises(CheckpointFailed):
            checkpoints.last(STATES[1])
    assert str(tmp_path) in told
    assert "make room there" in told
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}00001_one"]
    assert list(read_checkpoints(tmp_path, "mine")) == [1]
    # With room, it goes on.
    save(tmp_path, STATES[1], attempt="three")
    assert list(read_checkpoints(tmp_path, "mine")) == [1, 2]


def test_checkpoints_of_other_settings_are_refused(tmp_path: Path) -> None:
    save(tmp_path, STATES[0])
    with pytest.raises(ValueError, match="another name"):
        read_checkpoints(tmp_path, "another's")


def test_a_state_that_is_being_written_may_be_trained_on(tmp_path: Path) -> None:
    """What is written is the state as it was given: tensors are copied, never shared."""
    with Checkpoints(tmp_path, "mine", "one") as checkpoints:
        checkpoints.save(dataclasses.replace(STATES[2]))
    assert read_checkpoints(tmp_path, "mine")[3].state.epochs == STATES[2].epochs

"""What a run needs and what is there: refused before, told while waiting, explained after."""

from pathlib import Path

import pytest

from app.data.features import InputShape
from app.training.needs import (
    PROCESS_BYTES,
    Needs,
    Node,
    Room,
    RunFailed,
    explain_death,
    explain_spill,
    explain_wait,
    refuse_impossible,
)
from tests.learning_world import make_config

LAPTOP = Room((Node(cpus=4, gpus=0, memory=8e9),), object_store=300e6)
PAIR = Room((Node(2, 1, 4e9), Node(2, 1, 4e9)), object_store=1e9)
SHAPE = InputShape(num_bins=(8,) * 20, has_null=(False,) * 20, num_categories=(50,) * 10)


def needs(**training: object) -> Needs:
    return Needs.of(make_config(Path(), **training).training)


@pytest.mark.parametrize(
    ("room", "asked"),
    [
        (LAPTOP, {"num_workers": 4}),
        (LAPTOP, {"num_workers": 8, "cpus_per_worker": 0.5}),
        (PAIR, {"num_workers": 2, "cpus_per_worker": 2, "use_gpu": True}),
    ],
)
def test_what_fits_is_not_refused(room: Room, asked: dict[str, object]) -> None:
    refuse_impossible(needs(**asked), room)


@pytest.mark.parametrize(
    ("room", "asked", "told"),
    [
        (LAPTOP, {"num_workers": 5}, r"5 worker\(s\) with 1 CPU each, got nodes with 4;.*num_work"),
        # Four CPUs, but none on one node.
        (PAIR, {"cpus_per_worker": 3}, "3 CPU each, got nodes with 2, 2; .*cpus_per_worker"),
        (LAPTOP, {"use_gpu": True}, "1 GPU each, got nodes with 0; .*use_gpu to false"),
    ],
)
def test_workers_that_can_never_run_are_refused_with_what_to_change(
    room: Room, asked: dict[str, object], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        refuse_impossible(needs(**asked), room)


def test_every_reason_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"CPU each.*; .*GPU each"):
        refuse_impossible(needs(num_workers=9, use_gpu=True), LAPTOP)


def test_a_cluster_that_grows_is_not_refused() -> None:
    refuse_impossible(needs(num_workers=50), Room(LAPTOP.nodes, LAPTOP.object_store, grows=True))


def test_rows_that_no_machine_can_hold_are_refused() -> None:
    few = needs().with_rows(SHAPE, num_train=1_000_000, num_stop=50_000, num_weights=100_000)
    refuse_impossible(few, LAPTOP)
    many = needs().with_rows(SHAPE, num_train=40_000_000, num_stop=50_000, num_weights=100_000)
    with pytest.raises(ValueError, match=r"about 14\.\d GB of memory each, got .* 8\.0 GB;.*windo"):
        refuse_impossible(many, LAPTOP)


def test_more_workers_on_more_machines_make_each_smaller() -> None:
    rows = {"num_train": 20_000_000, "num_stop": 10_000, "num_weights": 1000}
    one = needs(num_workers=1).with_rows(SHAPE, **rows)
    two = needs(num_workers=2).with_rows(SHAPE, **rows)
    assert two.memory < 0.6 * one.memory
    assert two.memory > PROCESS_BYTES
    with pytest.raises(ValueError, match="of memory each"):
        refuse_impossible(one, PAIR)
    refuse_impossible(two, PAIR)


def test_rows_beyond_the_object_store_are_told_to_go_to_disk() -> None:
    small, large = (needs().with_rows(SHAPE, n, 10, 10) for n in (10_000, 10_000_000))
    assert explain_spill(small, LAPTOP) is None
    assert "raise cluster.object_store_mb" in str(explain_spill(large, LAPTOP))


def test_a_busy_cluster_is_told_with_what_is_free() -> None:
    assert explain_wait(needs(num_workers=2), 0.5, 4, 0, 0) == (
        "waiting for room for 2 worker(s) with 1 CPU each: 0.5 of 4 CPUs are free; "
        "others use the rest"
    )
    assert "1 CPU and 1 GPU each" in explain_wait(needs(use_gpu=True), 4, 4, 0, 1)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("ray.exceptions.OutOfMemoryError: Task was killed", "ran out of memory"),
        ("(1) The process is killed by SIGKILL by OOM killer", "killed from outside"),
        ("RuntimeError: CUDA out of memory. Tried", "lower training.batch_rows"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
    ],
)
def test_a_death_for_want_of_something_is_explained(told: str, why: str) -> None:
    assert why in str(explain_death(f"Traceback (most recent call last):\n  ...\n{told}"))


def test_another_failure_keeps_its_own_last_line() -> None:
    failed = RunFailed.after("mine", 3, "Training failed:\nTraceback\nKeyError: 'x'\n\n")
    assert str(failed).startswith("run mine failed 3 times: KeyError: 'x'; once that is mended")

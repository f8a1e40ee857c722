"""The training benchmark's contenders do the same work, to the bit."""

import itertools

import pytest
import torch
import typer

from benchmarks import train_gpu
from benchmarks.training import contenders, world
from benchmarks.training.contenders import Lap, Loader, Ours, Plain, interleave, speed, tensors_of

CONFIG = world.training(64, 5, network={"hidden": 16, "num_layers": 2, "num_members": 2})
ROWS = world.make_rows(300, 4, 1)


@pytest.mark.parametrize("kind", [Plain, Loader])
def test_every_contender_learns_the_weights_that_ours_learns(kind: type[Plain]) -> None:
    ours, theirs = (world.network_of(CONFIG, 4) for _ in range(2))
    first = Ours(ours, ROWS, CONFIG)
    second = kind(theirs, tensors_of(ROWS, theirs), CONFIG)
    for number in (1, 2):
        assert first.train(number) == second.train(number) == 300
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name


def test_blocks_of_the_benchmark_are_the_products() -> None:
    block = world.block_of(ROWS, first=25_000)
    assert list(block["place"][[0, -1]]) == [25_000, 25_299]
    assert set(block) == {"numbers", "categories", "label", "place"}


class Counted:
    """A contender that notes when it was called."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name, self._calls = name, calls

    def train(self, number: int) -> int:
        self._calls.append(f"{self._name}{number}")
        return 10


def test_rounds_take_turns_and_the_first_is_not_counted() -> None:
    calls: list[str] = []
    laps = interleave({name: Counted(name, calls) for name in "ab"}, rounds=3)
    assert calls == ["a1", "b1", "b2", "a2", "a3", "b3", "b4", "a4"]
    assert {name: len(each) for name, each in laps.items()} == {"a": 3, "b": 3}


def test_a_speed_is_the_median_of_the_rounds_own_ratios() -> None:
    ours = [Lap(1.0, 2.0), Lap(10.0, 2.0), Lap(1.0, 2.0)]
    other = [Lap(2.0, 1.0), Lap(20.0, 1.0), Lap(9.0, 1.0)]
    assert speed({"ours": ours, "other": other}, "ours", "other") == (2.0, 0.5)
    medians = contenders.medians({"ours": ours})
    assert medians["ours"]["rows_per_s"] == 1_000_000
    assert all(a != b for a, b in itertools.pairwise(contenders.rotated("abc", 2)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_benchmark_says_where_to_go() -> None:
    from typer.testing import CliRunner

    app = typer.Typer()
    app.command()(train_gpu.main)
    told = CliRunner().invoke(app, [])
    assert told.exit_code == 2
    assert "torch sees no GPU" in told.output

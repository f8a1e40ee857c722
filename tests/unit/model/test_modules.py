"""A user's own module: brought in by path, known again by its source."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from app.data.features import InputShape
from app.model.modules import load_module
from app.model.networks import build_network
from app.model.tasks import MulticlassTask
from app.sections import NetworkConfig

SHAPE = InputShape(num_bins=(4, 4), has_null=(False, True), num_categories=(5,))
SOURCE = """
import torch
from torch import nn

class Linear(nn.Module):
    def __init__(self, shape, num_outputs, members=0):
        super().__init__()
        self.layer = nn.Linear(len(shape.num_bins), num_outputs * max(members, 1))
        self.members, self.num_outputs = members, num_outputs

    def forward(self, numbers, categories):
        out = self.layer(numbers)
        return out.view(-1, self.members, self.num_outputs) if self.members else out

class Wrong(Linear):
    def forward(self, numbers, categories):
        return self.layer(numbers)[:, 0]

class Empty(nn.Module):
    def __init__(self, shape, num_outputs):
        super().__init__()

number = 3
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "users_nets.py"
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "users_nets", raising=False)
    importlib.invalidate_caches()
    return file


@pytest.mark.parametrize(("options", "num_members"), [({}, 1), ({"members": 4}, 4)])
def test_a_users_module_gives_logits_by_member_and_output(nets, options, num_members):
    config = NetworkConfig(module="users_nets:Linear", options=options)
    network = build_network(config, SHAPE, MulticlassTask(num_outputs=3))
    logits = network(torch.rand(7, 2), torch.zeros(7, 1, dtype=torch.int64))
    assert logits.shape == (7, num_members, 3)


def test_a_source_that_changed_is_refused_before_it_runs(nets):
    digest = load_module("users_nets:Linear").source_digest
    assert load_module("users_nets:Linear", digest).source_digest == digest
    del sys.modules["users_nets"]
    nets.write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match="check out the code"):
        load_module("users_nets:Linear", digest)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere_at_all:Net", "no source file"),
        ("users_nets:number", "expected a class of torch"),
        ("users_nets:Missing", "expected a class of torch"),
        ("pathlib:Path", "expected a class of torch"),
    ],
)
def test_what_is_no_module_is_refused_saying_why(nets, path, said):
    with pytest.raises(ValueError, match=said):
        load_module(path)


def test_a_module_that_does_not_fit_is_refused_saying_why(nets):
    numbers, codes = torch.rand(7, 2), torch.zeros(7, 1, dtype=torch.int64)
    task = MulticlassTask(num_outputs=3)
    with pytest.raises(ValueError, match="nothing to learn"):
        build_network(NetworkConfig(module="users_nets:Empty"), SHAPE, task)
    with pytest.raises(ValueError, match="depth"):
        build_network(NetworkConfig(module="users_nets:Linear", options={"depth": 2}), SHAPE, task)
    wrong = build_network(NetworkConfig(module="users_nets:Wrong"), SHAPE, task)
    with pytest.raises(ValueError, match=r"gave \(7,\) for 7 rows"):
        wrong(numbers, codes)


def test_a_path_that_is_none_is_refused_by_the_configuration():
    for path in ("users_nets", "../nets:Net", "a b:C", "os:system()"):
        with pytest.raises(ValueError, match="module"):
            NetworkConfig(module=path)

"""A user's module with what modules have: running means, constants, a weight under two names."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from app.config import Config
from app.model.networks import Network, restore_network
from app.sections import NetworkConfig
from app.training.assembly import new_network
from app.training.fitting import fit
from app.training.state import FitState
from tests.learning_world import make_config, make_encoded

ENCODER, TRAIN, STOP = make_encoded()
SOURCE = """
import torch
from torch import nn

class Normed(nn.Module):
    def __init__(self, shape, num_outputs):
        super().__init__()
        self.register_buffer("scale", torch.tensor([2.0]))
        self.norm = nn.BatchNorm1d(len(shape.num_bins))
        self.first = nn.Linear(len(shape.num_bins), len(shape.num_bins))
        self.again = nn.Linear(len(shape.num_bins), len(shape.num_bins))
        self.again.weight = self.first.weight
        self.last = nn.Linear(len(shape.num_bins), num_outputs)

    def forward(self, numbers, categories):
        hidden = self.again(self.first(self.norm(numbers)).relu())
        return self.last(hidden * self.scale)
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    (tmp_path / "normed_net.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "normed_net", raising=False)
    importlib.invalidate_caches()
    return make_config(tmp_path, network=NetworkConfig(module="normed_net:Normed"))


def trained(config: Config, resume: FitState | None = None) -> tuple[Network, list[FitState]]:
    states: list[FitState] = []
    network = new_network(config, ENCODER.shape)
    fit(network, TRAIN, STOP, config.training, resume=resume, on_epoch=states.append)
    return network, states


def test_its_buffers_are_learned_kept_and_restored(config: Config) -> None:
    network, states = trained(config)
    means = network.state_dict()["module.norm.running_mean"]
    assert means.abs().max() > 0
    assert network.state_dict()["module.scale"] == 2.0
    assert states[-1].final.keys() == network.state_dict().keys()
    restored = restore_network(network.description(), network.content()[1])
    assert (restored.predict(STOP.encoded) == network.predict(STOP.encoded)).all()


def test_it_goes_on_after_a_checkpoint_to_the_same_bits(config: Config) -> None:
    whole, states = trained(config)
    kept = FitState.from_files(states[1].to_files("run"), "run")
    resumed, _ = trained(config, kept)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name

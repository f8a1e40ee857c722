"""The optimizer: torch's own, to the bit, and nothing of torch's compiler."""

import subprocess
import sys

import torch

from app.training.optimizer import QuickAdamW

FIRST_STEP = """
import sys, torch
from app.training.optimizer import QuickAdamW
network = torch.nn.Linear(3, 1)
optimizer = QuickAdamW(network.parameters(), lr=0.1, fused=True)
network(torch.ones(4, 3)).sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""


def test_it_steps_as_torchs_own_does() -> None:
    results = []
    for kind in (torch.optim.AdamW, QuickAdamW):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 1))
        optimizer = kind(network.parameters(), lr=0.01, weight_decay=0.1, fused=True)
        for _ in range(5):
            optimizer.zero_grad()
            network(torch.randn(16, 5)).square().mean().backward()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        moments = optimizer.state_dict()["state"][0]
        results.append([*network.state_dict().values(), *moments.values()])
    for own, ours in zip(*results, strict=True):
        assert torch.equal(own, ours)


def test_its_first_step_needs_no_compiler() -> None:
    subprocess.run([sys.executable, "-c", FIRST_STEP], check=True)

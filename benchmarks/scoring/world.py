"""The model of the scoring benchmark, and a workspace in which it is the champion."""

from pathlib import Path

import torch

from app.data.features import Encoder, Statistics
from app.data.profile import Profile
from app.ledger.database import open_ledger
from app.model.bundle import ModelBundle
from app.model.calibration import Calibrator
from app.model.networks import TabularNetwork
from app.registry.artifacts import Artifacts
from app.sections import FeaturesConfig, NetworkConfig
from benchmarks.scoring.data import make_rows
from benchmarks.scoring.described import config, contract
from tests.serving_world import give_roles, register

# What a team would write: one network without an ensemble.
NETWORK = NetworkConfig(hidden=64, num_layers=2, embedding=8, num_members=1)
SPREAD = 8.0
# Not the identity, so that a peer that forgot it is found out.
CALIBRATOR = Calibrator(slope=1.3, intercept=-0.4)
FITTED_ROWS = 50_000


def make_bundle() -> ModelBundle:
    """Make a model of the contract; its weights are random, which costs what others do."""
    table, described = make_rows(0, FITTED_ROWS), contract()
    encoder = Encoder.fit(Statistics.collect(table, described), FeaturesConfig())
    torch.manual_seed(5)
    network = TabularNetwork(NETWORK, encoder.shape)
    with torch.no_grad():
        # Random weights tell rows apart by little: a score of another row must be found out.
        network.head_KHO.mul_(SPREAD)
    return ModelBundle(
        contract=described,
        encoder=encoder,
        network=network.eval(),
        calibrator=CALIBRATOR,
        profile=Profile.for_encoder(encoder, [0.2, 0.4, 0.6]),
        card={"purpose": "a benchmark"},
    )


def make_workspace(workspace: Path, bundle: Path) -> None:
    """Write the model to a folder, and a workspace in which it is the champion, once."""
    settings = config(workspace)
    if not bundle.exists():
        make_bundle().save(bundle)
    digest = Artifacts(settings.artifacts_path).put(bundle)
    ledger = open_ledger(settings.ledger_url)
    register(settings, ledger, digest, "run-1")
    give_roles(ledger, settings.name, digest)
    ledger.close()

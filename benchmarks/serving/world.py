"""Make what every contender serves: one network, rows, and what it says of each of them.

A flights bundle with random weights (a server's cost does not depend on how good a model is), a
workspace in which it is the champion, and acceptable rows. Ours reads the workspace; peers read the
folder of the bundle.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from app.config import Config, load_config
from app.contracts.rows import Contract
from app.data.features import Encoder, Statistics
from app.data.profile import Profile
from app.ledger.database import open_ledger
from app.model.bundle import ModelBundle
from app.model.calibration import Calibrator
from app.model.networks import TabularNetwork
from app.registry.artifacts import Artifacts
from app.sections import NetworkConfig
from app.security.access import Keyring
from benchmarks.serving.bodies import stream_of, table_file
from benchmarks.serving.plain import CONFIG
from tests.serving_world import AT, give_roles, make_rows, make_table, register

NUM_ROWS = 4000
# One network without an ensemble: what a team would write, and 0.1 ms a row. The flights' own is
# four times as large and would hide more of a server's cost.
SMALL = NetworkConfig(hidden=64, num_layers=2, embedding=8)
SPREAD = 8.0
# Not the identity, so that a peer that forgot it is found out.
CALIBRATOR = Calibrator(slope=1.3, intercept=-0.4)


@dataclass(frozen=True)
class World:
    """Where things are."""

    folder: Path

    @property
    def bundle(self) -> Path:
        """The model, as files."""
        return self.folder / "bundle"

    @property
    def workspace(self) -> Path:
        """The workspace of ours, in which the model is champion."""
        return self.folder / "workspace"

    @property
    def requests(self) -> Path:
        """Rows, and what the bundle says of each."""
        return self.folder / "requests.json"

    @property
    def key(self) -> str:
        """An API key that may predict."""
        return (self.folder / "key").read_text()

    def fresh_workspace(self) -> Path:
        """Copy the workspace, so that each round begins with empty tables."""
        copy = self.folder / "w"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.workspace, copy)
        return copy


def make_world(
    folder: Path, network: str | NetworkConfig = "small", num_rows: int = NUM_ROWS
) -> World:
    """Write the bundle, the workspace and the requests, once.

    The network is small, or the flights' own, or one of a given size.
    """
    world = World(folder)
    config = load_config(CONFIG, [f"workspace={world.workspace}"])
    bundle = _bundle(config, network)
    digest = bundle.save(world.bundle)
    assert Artifacts(config.artifacts_path).put(world.bundle) == digest
    ledger = open_ledger(config.ledger_url)
    register(config, ledger, digest, "run-1")
    give_roles(ledger, config.name, digest)
    ledger.close()
    key = Keyring(config.workspace).create("benchmark", ["predict", "audit"], AT)
    (folder / "key").write_text(key.get_secret_value())
    _write_requests(world.requests, bundle, num_rows)
    return world


def _write_requests(file: Path, bundle: ModelBundle, num_rows: int) -> None:
    table = make_table(bundle.contract, num_rows, first=NUM_ROWS)
    document = {
        "rows": make_rows(bundle.contract, num_rows, first=NUM_ROWS),
        "probabilities": bundle.predict(table).tolist(),
    }
    file.write_text(json.dumps(document))
    table_file(file).write_bytes(stream_of(table))


def _bundle(config: Config, network: str | NetworkConfig) -> ModelBundle:
    contract: Contract = config.contract
    table = make_table(contract, NUM_ROWS)
    encoder = Encoder.fit(Statistics.collect(table, contract), config.features)
    torch.manual_seed(5)
    named = SMALL if network == "small" else config.training.network
    size = network if isinstance(network, NetworkConfig) else named
    built = TabularNetwork(size, encoder.shape)
    with torch.no_grad():
        # Random weights tell rows apart by little: an answer for another row must be found out.
        built.head_KHO.mul_(SPREAD)
    return ModelBundle(
        contract=contract,
        encoder=encoder,
        network=built.eval(),
        calibrator=CALIBRATOR,
        profile=Profile.for_encoder(encoder, [0.2, 0.4, 0.6]),
        card={"purpose": "a benchmark"},
    )

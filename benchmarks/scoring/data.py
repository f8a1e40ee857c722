"""The rows of the scoring benchmark and the model that scores them: seeded, written once.

Thirty columns: an id, a time, twenty numbers and eight categories, with nulls where the contract
allows them. Every row is acceptable, since a plain loop has no word for one that is not.
"""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from app.config import Config
from app.contracts.rows import TIMESTAMP, Column, Contract
from app.data.features import Encoder, Statistics
from app.data.profile import Profile
from app.ledger.database import open_ledger
from app.model.bundle import ModelBundle
from app.model.calibration import Calibrator
from app.model.networks import TabularNetwork
from app.registry.artifacts import Artifacts
from app.sections import ClusterConfig, FeaturesConfig, NetworkConfig, SourceConfig
from tests.serving_world import give_roles, register

FILE_ROWS, GROUP_ROWS = 500_000, 125_000
FIRST_DAY_US = 1_577_836_800_000_000  # 2020-01-01
SECOND_US = 1_000_000
NUM_NUMBERS = 20
NUMBERS = tuple(f"number_{i:02d}" for i in range(NUM_NUMBERS))
# name: number of values, share of nulls, whether the contract lists them
CATEGORIES = {
    "channel": (3, 0.0, True),
    "weekday": (7, 0.0, True),
    "tier": (5, 0.04, True),
    "region": (24, 0.0, True),
    "maker": (120, 0.05, False),
    "depot": (400, 0.0, False),
    "product": (1000, 0.0, False),
    "campaign": (12, 0.30, False),
}
# What a team would write: one network without an ensemble.
NETWORK = NetworkConfig(hidden=64, num_layers=2, embedding=8, num_members=1)
SPREAD = 8.0
# Not the identity, so that a peer that forgot it is found out.
CALIBRATOR = Calibrator(slope=1.3, intercept=-0.4)
FITTED_ROWS = 50_000


def contract() -> Contract:
    """Describe the columns as a model's configuration would."""
    numbers = [
        Column(name=name, kind="number", nullable=_null_share(i) > 0, minimum=low, maximum=high)
        for i, name in enumerate(NUMBERS)
        for low, high in [_bounds(i)]
    ]
    categories = [
        Column(
            name=name,
            kind="category",
            nullable=nulls > 0,
            categories=tuple(_vocabulary(name)) if closed else None,
        )
        for name, (_, nulls, closed) in CATEGORIES.items()
    ]
    return Contract(
        id="order_id",
        event_time="ordered_at",
        label="returned",
        columns=(
            Column(name="order_id", kind="identifier", feature=False),
            Column(name="ordered_at", kind="time", feature=False),
            *numbers,
            *categories,
        ),
    )


def config(workspace: Path, cores: int = 2) -> Config:
    """Make a model's configuration around the contract."""
    return Config(
        name="orders",
        workspace=workspace,
        source=SourceConfig(kind="parquet", events="rows"),
        contract=contract(),
        cluster=ClusterConfig(num_cpus=cores, object_store_mb=100, dashboard=False),
    )


def write_rows(folder: Path, num_rows: int, file_rows: int = FILE_ROWS) -> None:
    """Write files of some row groups, unless they are there."""
    done = folder / "_whole"  # Readers of a folder pass over such names.
    if done.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file, first in enumerate(range(0, num_rows, file_rows)):
        last = min(first + file_rows, num_rows)
        path = folder / f"rows-{file:04d}.parquet"
        with pq.ParquetWriter(path, make_rows(0, 1).schema) as writer:
            for start in range(first, last, GROUP_ROWS):
                writer.write_table(make_rows(start, min(GROUP_ROWS, last - start)))
    done.touch()


def make_rows(first: int, num_rows: int) -> pa.Table:
    """Make rows, ids counting up from `first`."""
    chance = np.random.default_rng((7, first))
    places = np.arange(first, first + num_rows, dtype=np.int64)
    columns: dict[str, pa.Array] = {
        "order_id": pa.array([f"o-{place:010d}" for place in places]),
        "ordered_at": pa.array(FIRST_DAY_US + places * SECOND_US, pa.int64()).cast(TIMESTAMP),
    }
    for i, name in enumerate(NUMBERS):
        low, high = _bounds(i)
        values = np.clip(_drawn(i, chance, num_rows), low, high)
        columns[name] = pa.array(values, mask=chance.random(num_rows) < _null_share(i))
    for name, (size, null_share, _) in CATEGORIES.items():
        weights = 1 / np.arange(1, size + 1)
        codes = chance.choice(size, num_rows, p=weights / weights.sum())
        indices = pa.array(codes.astype(np.int32), mask=chance.random(num_rows) < null_share)
        columns[name] = pa.array(_vocabulary(name)).take(indices)
    return pa.table(columns)


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


def _vocabulary(name: str) -> list[str]:
    return [f"{name}-{i:04d}" for i in range(CATEGORIES[name][0])]


def _bounds(number: int) -> tuple[float, float]:
    return ((-8.0, 8.0), (0.0, 10_000.0), (0.0, 1000.0), (0.0, 1.0))[number % 4]


def _null_share(number: int) -> float:
    return (0.0, 0.05, 0.0, 0.1, 0.0)[number % 5]


def _drawn(number: int, chance: np.random.Generator, size: int) -> np.ndarray:
    draws = (
        lambda: chance.normal(0, 1, size),
        lambda: chance.lognormal(3, 1, size),
        lambda: np.round(chance.uniform(0, 1000, size), 2),
        lambda: chance.beta(2, 5, size),
    )
    return draws[number % len(draws)]()

"""The columns and the configuration of the scoring benchmark's model. Imports no torch."""

from pathlib import Path

from app.config import Config
from app.contracts.rows import Column, Contract
from app.sections import ClusterConfig, SourceConfig
from benchmarks.harness.orders import orders
from benchmarks.scoring.data import CATEGORIES, NUMBERS, bounds, null_share


def contract() -> Contract:
    """Describe the columns as a model's configuration would."""
    numbers = [
        Column(name=name, kind="number", nullable=null_share(i) > 0, minimum=low, maximum=high)
        for i, name in enumerate(NUMBERS)
        for low, high in [bounds(i)]
    ]
    return orders(numbers, CATEGORIES)


def config(workspace: Path, cores: int = 2) -> Config:
    """Make a model's configuration around the contract."""
    return Config(
        name="orders",
        workspace=workspace,
        source=SourceConfig(kind="parquet", events="rows"),
        contract=contract(),
        cluster=ClusterConfig(num_cpus=cores, object_store_mb=100, dashboard=False),
    )

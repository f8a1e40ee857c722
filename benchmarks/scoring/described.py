"""The columns and the configuration of the scoring benchmark's model. Imports no torch."""

from pathlib import Path

from app.config import Config
from app.contracts.rows import Column, Contract
from app.sections import ClusterConfig, SourceConfig
from benchmarks.scoring.data import CATEGORIES, NUMBERS, bounds, null_share, vocabulary


def contract() -> Contract:
    """Describe the columns as a model's configuration would."""
    numbers = [
        Column(name=name, kind="number", nullable=null_share(i) > 0, minimum=low, maximum=high)
        for i, name in enumerate(NUMBERS)
        for low, high in [bounds(i)]
    ]
    categories = [
        Column(
            name=name,
            kind="category",
            nullable=nulls > 0,
            categories=tuple(vocabulary(name)) if closed else None,
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

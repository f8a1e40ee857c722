"""A small real world for learning tests: a contract, a month of rows with a signal, settings.

The outcome depends on a number, a category and a count; some numbers are null, some outcomes void
or pending.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from app.config import Config
from app.contracts.records import DatasetVersion
from app.contracts.rows import TIMESTAMP, Column, Contract
from app.data.features import Encoder, Statistics
from app.data.profile import Profile
from app.data.tables import Tables, open_tables
from app.model.bundle import ModelBundle
from app.model.calibration import Calibrator
from app.model.networks import TabularNetwork, frozen
from app.sections import FeaturesConfig, NetworkConfig, SourceConfig, SplitConfig, TrainingConfig
from app.training.rows import Rows
from app.training.window import encode_rows

START = datetime(2020, 1, 1, tzinfo=UTC)
END = datetime(2020, 1, 31, tzinfo=UTC)
CONTRACT = Contract(
    id="order",
    event_time="due",
    lead_minutes=30,
    label="late",
    columns=(
        Column(name="order", kind="identifier", feature=False),
        Column(name="due", kind="time"),
        Column(name="weight", kind="number", nullable=True),
        Column(name="stops", kind="number"),
        Column(name="depot", kind="category"),
        Column(name="driver", kind="category", nullable=True),
    ),
)

# Rows that were pinned, for what only tells of them.
DATASET = DatasetVersion(
    start=START,
    end=END,
    known_at=END,
    events_version=0,
    labels_version=0,
    digest="0" * 32,
    num_rows=1500,
    num_known=1400,
    num_void=60,
)


def make_config(workspace: Path, **training: object) -> Config:
    """Make a configuration that fits in seconds."""
    settings: dict[str, object] = {
        "network": NetworkConfig(hidden=16, num_layers=2, num_members=2, embedding=4, dropout=0.1),
        "split": SplitConfig(gate_window_days=12, gate_every_days=4, stop_days=4),
        "epochs": 3,
        "batch_rows": 64,
        "threads_per_worker": 1,
    }
    return Config(
        name="orders",
        workspace=workspace,
        source=SourceConfig(kind="parquet", events="none.parquet"),
        contract=CONTRACT,
        features=FeaturesConfig(num_bins=8, min_category_count=5),
        training=TrainingConfig.model_validate({**settings, **training}),
    )


def make_rows(number: int = 1500, seed: int = 0) -> pa.Table:
    """Make accepted rows of thirty days, as a loaded snapshot has them."""
    chance = np.random.default_rng(seed)
    minutes = np.sort(chance.uniform(0, 30 * 24 * 60, number))
    asked = [START + timedelta(minutes=float(minute)) for minute in minutes]
    weight, stops = chance.lognormal(2, 1, number), chance.integers(0, 12, number).astype(float)
    depot = chance.choice(["north", "south", "west"], number, p=[0.5, 0.3, 0.2])
    score = 0.8 * np.log(weight) + 0.2 * stops + 1.5 * (depot == "west") - 4.5
    late = (chance.random(number) < 1 / (1 + np.exp(-score))).astype(np.int8)
    state = chance.choice(["known", "void", "pending"], number, p=[0.9, 0.06, 0.04])
    return pa.table(
        {
            "order": [f"o{seed}-{i:06d}" for i in range(number)],
            "due": pa.array([time + timedelta(minutes=30) for time in asked], TIMESTAMP),
            "weight": pa.array(weight, mask=chance.random(number) < 0.1),
            "stops": stops,
            "depot": depot.tolist(),
            "driver": [None if i % 9 == 4 else f"d{i % 40}" for i in range(number)],
            "prediction_time": pa.array(asked, TIMESTAMP),
            "label": pa.array(late, pa.int8(), mask=state != "known"),
            "state": state.tolist(),
        }
    )


def fill_tables(config: Config, rows: pa.Table) -> Tables:
    """Commit rows and their outcomes, known an hour after the prediction."""
    tables = open_tables(config)
    accepted = rows.drop_columns(["label", "state"])
    at = pa.array([START] * len(rows), TIMESTAMP)
    source = pa.array(["test"] * len(rows))
    tables.append(
        "events", accepted.append_column("ingested_at", at).append_column("source", source)
    )
    outcomes = pa.table(
        {
            "row_id": rows["order"],
            "label": rows["label"],
            "void": [state == "void" for state in rows["state"].to_pylist()],
            "known_at": pa.array(
                [time + timedelta(hours=1) for time in rows["prediction_time"].to_pylist()],
                TIMESTAMP,
            ),
            "received_at": at,
            "source": source,
        }
    )
    told = pa.array([state != "pending" for state in rows["state"].to_pylist()])
    tables.append("labels", outcomes.filter(told))
    return tables


def make_encoder(rows: pa.Table) -> Encoder:
    """Fit an encoder."""
    config = FeaturesConfig(num_bins=8, min_category_count=5)
    return Encoder.fit(Statistics.collect(rows, CONTRACT), config)


def known_rows(table: pa.Table) -> pa.Table:
    """Give the rows whose outcome is known."""
    return table.filter([state == "known" for state in table["state"].to_pylist()])


def make_encoded(number: int = 900, num_train: int = 600) -> tuple[Encoder, Rows, Rows]:
    """Give an encoder fitted to rows, and the known ones encoded, to train on and to stop by."""
    table = make_rows(number)
    encoder, known = make_encoder(table), known_rows(table)
    train, stop = known.slice(0, num_train), known.slice(num_train)
    return encoder, encode_rows(encoder, train), encode_rows(encoder, stop)


def make_bundle(rows: pa.Table, seed: int = 0) -> ModelBundle:
    """Make a bundle with random weights."""
    import torch

    encoder = make_encoder(rows)
    torch.manual_seed(seed)
    config = NetworkConfig(hidden=16, num_members=3, embedding=4, dropout=0.2)
    network = frozen(TabularNetwork(config, encoder.shape))  # As training leaves one.
    profile = Profile.for_encoder(encoder, [0.1, 0.5]).add(rows)
    return ModelBundle(CONTRACT, encoder, network, Calibrator(), profile, {"seed": seed})

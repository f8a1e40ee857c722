"""A small model with real tables, ledger and artifacts; its days are sent like production's."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import torch

from app.config import Config
from app.contracts.records import DatasetVersion, ModelVersion
from app.data.features import Encoder, Statistics
from app.data.profile import Profile
from app.data.snapshots import take_snapshot
from app.data.tables import open_tables
from app.ledger.clock import drive_clock
from app.ledger.database import Ledger, open_ledger
from app.ledger.evidence import read_evidence
from app.model.bundle import ModelBundle
from app.model.calibration import Calibrator
from app.model.networks import TabularNetwork
from app.registry.artifacts import Artifacts
from app.registry.store import register_version
from app.sections import FeaturesConfig, NetworkConfig
from tests.unit.monitoring.logs import CONFIG, CONTRACT, FIRST, Logs, day, figures, training_rows


def make_config(workspace: Path, **monitoring: object) -> Config:
    return Config.model_validate(
        {
            "name": "rides",
            "workspace": workspace,
            "clock": "driven",
            "source": {"kind": "parquet", "events": "rides.parquet"},
            "contract": CONTRACT.model_dump(),
            "monitoring": {**CONFIG.model_dump(), **monitoring},
            "replay": {"history_until": FIRST.date(), "until": day(30).date()},
        }
    )


class World:
    """Tables, ledger and artifacts of one workspace, and one registered version."""

    def __init__(self, workspace: Path, **monitoring: object) -> None:
        self.config = make_config(workspace, **monitoring)
        self.ledger: Ledger = open_ledger(self.config.ledger_url)
        self.tables = open_tables(self.config)
        self.bundle = make_bundle()
        folder = workspace / "bundle"
        self.bundle.save(folder)
        self.digest = Artifacts(self.config.artifacts_path).put(folder)
        history = training_rows()
        source = history.schema.get_field_index("source")
        history = history.set_column(source, "source", pa.array(["ingest:1"] * history.num_rows))
        self.tables.append("events", history.select(self.tables.schema("events").names))
        dataset = take_snapshot(self.tables, CONTRACT, None, FIRST, FIRST)
        register_version(self.ledger, make_version(self.digest, dataset))
        drive_clock(self.ledger, self.config, now=FIRST, watermark=FIRST)

    def send(self, logs: Logs, num_pieces: int = 1) -> None:
        """Append a day to the tables, scored by the registered version, in so many commits."""
        for part in range(num_pieces):
            for name, table in self._rows(logs).items():
                size = -(-table.num_rows // num_pieces)
                piece = table.slice(part * size, size)
                if piece.num_rows:
                    self.tables.append(name, piece)

    def reach(self, watermark: datetime) -> None:
        drive_clock(self.ledger, self.config, now=watermark, watermark=watermark)

    @property
    def evidence(self) -> list[str]:
        return [item.model_dump_json() for item in read_evidence(self.ledger, "rides")]

    def _rows(self, logs: Logs) -> dict[str, pa.Table]:
        size = logs.predictions.num_rows
        scored = self.bundle.predict(logs.events)
        predictions = {
            **{name: logs.predictions[name] for name in logs.predictions.column_names},
            "version": pa.array([self.digest] * size),
            "probability": pa.array(scored[:size]),
            "prediction_id": pa.array([f"p-{i}" for i in range(size)]),
            "entity": pa.nulls(size, pa.string()),
            "propensity": pa.array([1.0] * size),
            "replica": pa.array(["one"] * size),
        }
        tables = {
            "events": {name: logs.events[name] for name in logs.events.column_names},
            "predictions": predictions,
            "labels": {
                **{name: logs.labels[name] for name in logs.labels.column_names},
                "source": pa.array(["http"] * logs.labels.num_rows),
            },
        }
        return {
            name: pa.table({c: columns[c] for c in self.tables.schema(name).names})
            for name, columns in tables.items()
        }


def make_bundle() -> ModelBundle:
    rows = training_rows()
    encoder = Encoder.fit(
        Statistics.collect(rows, CONTRACT), FeaturesConfig(num_bins=8, min_category_count=1)
    )
    torch.manual_seed(0)
    network = TabularNetwork(NetworkConfig(hidden=8, num_layers=1, embedding=2), encoder.shape)
    network.eval().requires_grad_(False)
    bare = ModelBundle(
        CONTRACT,
        encoder,
        network,
        Calibrator(),
        Profile.for_encoder(encoder),
        {"name": "rides"},
    )
    scores = bare.predict(rows)
    profile = Profile.for_encoder(encoder, scores).add(rows, scores)
    return ModelBundle(CONTRACT, encoder, network, Calibrator(), profile, {"name": "rides"})


def make_version(digest: str, dataset: DatasetVersion) -> ModelVersion:
    return ModelVersion(
        digest=digest,
        model="rides",
        run="rides-0000-retrain",
        kind="trained",
        created_at=FIRST,
        dataset=dataset,
        trained_until=FIRST,
        held_out_days=(),
        config_digest="0",
        code_version="0",
        seed=0,
        evaluation=figures(),
    )

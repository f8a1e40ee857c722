"""A small real world for serving tests: rows of a contract, bundles that fit it, roles in a ledger.

Bundles have random weights: serving must answer what a bundle says, however good it is.
"""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from app.config import Config
from app.contracts.records import (
    Action,
    DatasetVersion,
    Decision,
    Evaluation,
    Metric,
    ModelVersion,
    Roles,
)
from app.contracts.rows import Column, Contract
from app.data.features import Encoder, Statistics
from app.data.profile import Profile
from app.ledger.database import Ledger
from app.ledger.decisions import record_decision
from app.ledger.epochs import steward_name, take_epoch
from app.model.bundle import ModelBundle
from app.model.calibration import Calibrator
from app.model.networks import TabularNetwork
from app.registry.artifacts import Artifacts
from app.registry.store import change_roles, read_roles, register_version
from app.sections import FeaturesConfig, NetworkConfig

AT = datetime(2013, 4, 1, 6, tzinfo=UTC)


def make_rows(contract: Contract, number: int, first: int = 0) -> list[dict[str, Any]]:
    """Make acceptable rows as a client would send them, ids counting up from `first`."""
    chance = np.random.default_rng(first + 1)
    return [
        {column.name: _cell(column, contract, first + i, chance) for column in contract.columns}
        for i in range(number)
    ]


def _cell(column: Column, contract: Contract, number: int, chance: np.random.Generator) -> Any:
    if column.name == contract.id:
        return f"row-{number}"
    if column.kind == "time":
        return (AT + timedelta(minutes=number)).isoformat()
    if column.nullable and number % 7 == 3:
        return None
    if column.kind == "number":
        low = column.minimum if column.minimum is not None else 0.0
        high = column.maximum if column.maximum is not None else low + 100.0
        return float(chance.uniform(low, high))
    return str(chance.choice(column.categories or [f"{column.name}-{i}" for i in range(4)]))


def make_table(contract: Contract, number: int, first: int = 0) -> pa.Table:
    """Make the same rows as an Arrow table in the contract's schema."""
    rows = make_rows(contract, number, first)
    for row in rows:
        for column in contract.columns:
            if column.kind == "time":
                row[column.name] = datetime.fromisoformat(row[column.name])
    return pa.Table.from_pylist(rows, contract.schema)


def make_bundle(contract: Contract, seed: int) -> ModelBundle:
    """Make a bundle that fits a contract and answers differently for each seed."""
    table = make_table(contract, 400)
    encoder = Encoder.fit(Statistics.collect(table, contract), FeaturesConfig(min_category_count=1))
    torch.manual_seed(seed)
    network = TabularNetwork(NetworkConfig(hidden=16, num_layers=1, embedding=4), encoder.shape)
    return ModelBundle(
        contract=contract,
        encoder=encoder,
        network=network.eval(),
        calibrator=Calibrator(),
        profile=Profile.for_encoder(encoder, [0.2, 0.4, 0.6]),
        card={"seed": seed},
    )


def put_version(config: Config, ledger: Ledger, seed: int) -> str:
    """Store and register a bundle; return its digest."""
    with tempfile.TemporaryDirectory() as folder:
        make_bundle(config.contract, seed).save(Path(folder) / "bundle")
        digest = Artifacts(config.artifacts_path).put(Path(folder) / "bundle")
    register(config, ledger, digest, f"run-{seed}")
    return digest


def register(config: Config, ledger: Ledger, digest: str, run: str) -> None:
    """Register a bundle that is stored."""
    register_version(ledger, _version(config.name, digest, run))


def give_roles(
    ledger: Ledger, model: str, champion: str, previous: str | None = None, **others: Any
) -> Roles:
    """Make a version the champion by a recorded decision; others may play other parts."""
    now = read_roles(ledger, model)
    epoch = take_epoch(ledger, steward_name(model))
    decision = Decision(
        key=f"{model}-{now.generation:04d}-promote",
        model=model,
        at=AT,
        action=Action(kind="promote", reasons=("a test",), candidate=champion),
        epoch=epoch,
    )
    new = Roles(model=model, generation=now.generation, champion=champion, previous=previous)
    new = new.model_copy(update=others)
    with ledger.transaction() as connection:
        record_decision(connection, decision, now.generation)
        return change_roles(connection, now.generation, new, decision.key, epoch, AT)


def spool_owners(config: Config) -> dict[str, int]:
    """Give the process that holds each spool: a replica of this workspace, and of no other."""
    held = {}
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] != "->":
            held[int(words[5].rpartition(":")[2])] = int(words[4])
    found = {}
    for file in config.spool_path.glob("*/lock"):
        try:
            inode = file.stat().st_ino
        except FileNotFoundError:
            continue
        if inode in held:
            found[file.parent.name] = held[inode]
    return found


def _version(model: str, digest: str, run: str) -> ModelVersion:
    one = Metric(value=0.7, low=0.6, high=0.8)
    evaluation = Evaluation(
        num_rows=400,
        positive_share=0.3,
        mean_probability=0.3,
        roc_auc=one,
        pr_auc=one,
        brier=one,
        log_loss=0.6,
        calibration_error=0.01,
    )
    dataset = DatasetVersion(
        start=AT - timedelta(days=90),
        end=AT,
        known_at=AT,
        events_version=0,
        labels_version=0,
        digest="0" * 32,
        num_rows=400,
        num_known=400,
        num_void=0,
    )
    return ModelVersion(
        digest=digest,
        model=model,
        run=run,
        kind="trained",
        created_at=AT,
        dataset=dataset,
        trained_until=AT,
        held_out_days=(),
        config_digest="0" * 16,
        code_version="test",
        seed=1,
        evaluation=evaluation,
    )

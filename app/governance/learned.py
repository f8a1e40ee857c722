"""Know every snapshot that something was computed from, and what learned from which.

Knows the registry, the plans of runs and the index of comparators' fits; knows nothing of rows that
are to be forgotten, or of receipts.
"""

import shutil
from collections.abc import Collection
from pathlib import Path

import orjson

from app.config import Config
from app.contracts.records import DatasetVersion, ModelVersion
from app.ledger.database import Ledger
from app.model.manifest import DIGEST
from app.registry.store import list_versions


def known_snapshots(config: Config, ledger: Ledger) -> dict[str, DatasetVersion]:
    """Give every snapshot that is written down anywhere, by its digest.

    Versions of the registry come first, then plans of runs that have registered nothing, then fits
    of comparators.
    """
    found: dict[str, DatasetVersion] = {}
    for version in list_versions(ledger, config.name):
        found.setdefault(version.dataset.digest, version.dataset)
    for path in [*_plans(config), *_fits(config)]:
        dataset = _dataset_in(path)
        found.setdefault(dataset.digest, dataset)
    return found


def versions_of(ledger: Ledger, model: str, snapshot: str) -> tuple[ModelVersion, ...]:
    """List the versions that learned from a snapshot, oldest first."""
    versions = list_versions(ledger, model)
    return tuple(version for version in versions if version.dataset.digest == snapshot)


def forget_fits(config: Config, ledger: Ledger, snapshots: Collection[str]) -> int:
    """Delete comparators' fits to some snapshots, with their artifacts; returns how many.

    They are a cache: whoever wants one again fits it to the rows that are left. An artifact that is
    a version of the registry stays.
    """
    registered = {version.digest for version in list_versions(ledger, config.name)}
    num_forgotten = 0
    for path in _fits(config):
        if _dataset_in(path).digest not in snapshots:
            continue
        artifact = str(orjson.loads(path.read_bytes())["artifact"])
        if DIGEST.fullmatch(artifact) and artifact not in registered:
            shutil.rmtree(config.artifacts_path / artifact, ignore_errors=True)
        path.unlink()
        num_forgotten += 1
    return num_forgotten


def _plans(config: Config) -> list[Path]:
    return sorted((config.workspace / "runs").glob("*/plan.json"))


def _fits(config: Config) -> list[Path]:
    return sorted((config.workspace / "comparators").glob("*.json"))


def _dataset_in(path: Path) -> DatasetVersion:
    return DatasetVersion.model_validate(orjson.loads(path.read_bytes())["dataset"])

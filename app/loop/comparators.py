"""Make the models that the loop is compared with, and remember them.

Knows snapshots, the training core and the artifact store; knows nothing of Ray, HTTP, or how the
loop decides. A comparator is refitted at each month's start with the labels known then, by the same
core, splits and settings as the product's own models, and nobody asks a gate.
"""

import os
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from app.config import Config
from app.contracts.records import DatasetVersion
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.tables import Tables
from app.loop.rehearsal import Period, Policy, Scoreboard, shift_months
from app.model.bundle import ModelBundle
from app.registry.artifacts import ArtifactMissing, Artifacts
from app.training.assembly import SECTIONS, fit_in_process

LAST_MONTHS = 3
# By then every outcome of a replay has been reported.
ALL_KNOWN = timedelta(days=366)


def scores_path(config: Config) -> Path:
    """Where the comparators' probabilities lie, a row a production row."""
    return config.workspace / "comparators" / "scores.parquet"


def write_scores(config: Config, scores: pa.Table) -> Path:
    """Write the scored rows, aside first."""
    path = scores_path(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(scores, aside)
    return aside.replace(path)


def write_board(config: Config, board: Scoreboard) -> Path:
    """Write the scoreboard into the workspace, aside first."""
    path = config.workspace / "scoreboard.json"
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(board.model_dump_json(indent=1))
    return aside.replace(path)


def production_rows(config: Config, tables: Tables, start: datetime, until: datetime) -> pa.Table:
    """Load the rows that were predicted in production, with their outcomes as known in the end.

    Raises ValueError when there is none.
    """
    dataset = take_snapshot(tables, config.contract, start, until, until + ALL_KNOWN)
    if not dataset.num_known:
        raise ValueError(
            f"{tables.root}: {dataset.num_rows} rows of {start:%Y-%m-%d} to {until:%Y-%m-%d}, "
            "none with a known outcome; replay them with jobs.loop or bring them in by jobs.ingest"
        )
    return load_snapshot(tables, config.contract, dataset)


def window_start(policy: Policy, period: Period) -> datetime | None:
    """Say where a comparator's training window begins; None is the first row there is."""
    return shift_months(period.start, -LAST_MONTHS) if policy == "last3" else None


class FitIndex:
    """Remember which artifact a snapshot and a configuration gave: one small JSON file a fit."""

    def __init__(self, root: Path) -> None:
        """Keep the index below root, which need not exist yet."""
        self._root = root

    def find(self, dataset: DatasetVersion, config_digest: str) -> str | None:
        """Give the artifact digest of a fit done before."""
        path = self._path(dataset, config_digest)
        return str(orjson.loads(path.read_bytes())["artifact"]) if path.is_file() else None

    def record(self, dataset: DatasetVersion, config_digest: str, artifact: str) -> None:
        """Write a fit down, aside first, so that a crash leaves no half of it."""
        path = self._path(dataset, config_digest)
        self._root.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        entry = {
            "artifact": artifact,
            "config": config_digest,
            "dataset": dataset.model_dump(mode="json"),
        }
        aside.write_bytes(orjson.dumps(entry, option=orjson.OPT_INDENT_2))
        aside.replace(path)

    def _path(self, dataset: DatasetVersion, config_digest: str) -> Path:
        # The end is named too: it decides which days stop training.
        return self._root / f"{dataset.digest}-{dataset.end:%Y%m%dT%H%M}-{config_digest}.json"


class Comparators:
    """The models of the policies without a loop, fitted when first asked for."""

    def __init__(
        self,
        config: Config,
        tables: Tables,
        first: ModelBundle | None,
        first_period: Period,
        show: Callable[[str], None],
    ) -> None:
        """Take `first`, the loop's first champion; without one, fit what it would have been."""
        self._config = config
        self._tables = tables
        self._index = FitIndex(config.workspace / "comparators")
        self._artifacts = Artifacts(config.artifacts_path)
        self._show = show
        self._first_period = first_period
        self._first = first

    def model(self, policy: Policy, period: Period) -> ModelBundle:
        """Give the model that a policy uses in a month."""
        if policy == "static" or period == self._first_period:
            if self._first is None:
                self._first = self._fitted("all", self._first_period)
            return self._first
        return self._fitted(policy, period)

    def _fitted(self, policy: Policy, period: Period) -> ModelBundle:
        """Find the fit of a window, or make it."""
        config = self._config
        start = window_start(policy, period)
        dataset = take_snapshot(self._tables, config.contract, start, period.start, period.start)
        digest = config.digest_of(*SECTIONS)
        name = f"{policy}, {period.month}, {dataset.num_known:,} outcomes"
        if (known := self._stored(self._index.find(dataset, digest))) is not None:
            self._show(f"{name}: fitted before")
            return known
        self._show(f"{name}: fitting")
        rows = load_snapshot(self._tables, config.contract, dataset)
        facts: dict[str, object] = {
            "run": f"comparator-{policy}-{period.month}",
            "dataset": dataset.content,
        }
        fitted = fit_in_process(config, rows, dataset.end, facts=facts)
        self._index.record(dataset, digest, self._store(fitted.bundle))
        self._show(f"{name}: {fitted.evaluation.headline} on its stop days")
        return fitted.bundle

    def _stored(self, artifact: str | None) -> ModelBundle | None:
        """Load a bundle that is still there; an altered one is an error, not a cache miss."""
        if artifact is None:
            return None
        try:
            return ModelBundle.load(self._artifacts.path(artifact), artifact)
        except ArtifactMissing:
            return None

    def _store(self, bundle: ModelBundle) -> str:
        root = self._config.artifacts_path
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".comparator-") as folder:
            path = Path(folder) / "bundle"
            bundle.save(path)
            return self._artifacts.put(path)

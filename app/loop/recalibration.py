"""Fit a new calibrator around an old network, on recent rows with known outcomes.

Knows bundles and rows; knows nothing of whether that is wise. Days for the gate are kept out, as in
training.
"""

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.config import Config
from app.contracts.records import ModelVersion
from app.contracts.times import day_numbers, day_of
from app.data.snapshots import load_snapshot, take_snapshot
from app.loop.held_out import held_out
from app.loop.scoring import Store
from app.model.calibration import fit_calibrator
from app.model.evaluation import evaluate


class RecalibrationError(ValueError):
    """There are not enough recent rows with both outcomes to fit a calibrator."""


def recalibrate(
    config: Config, store: Store, champion: ModelVersion, run: str, at: datetime
) -> ModelVersion:
    """Make the champion anew with a calibrator fitted on the last window before `at`.

    The window is that of monitoring, and begins after what shaped the champion. Raises
    RecalibrationError when its rows are too few.
    """
    start = max(at - timedelta(days=config.monitoring.window_days), champion.trained_until)
    dataset = take_snapshot(store.tables, store.contract, start, at, at)
    rows = load_snapshot(store.tables, store.contract, dataset)
    rows = rows.filter(pc.equal(rows["state"], "known"))
    is_gate, held_out_days = _gate_rows(config, rows, champion, start)
    fitting = rows.filter(pa.array(~is_gate))
    labels = fitting["label"].to_numpy()
    if len(labels) < config.loop.gate.min_rows or len(np.unique(labels)) < 2:
        raise RecalibrationError(
            f"{len(labels):,} rows with known outcomes since {start:%Y-%m-%d}, "
            f"{config.loop.gate.min_rows:,} with both outcomes are needed"
        )
    bundle = store.bundle(champion.digest)
    scores = bundle.uncalibrated(fitting)
    kind, task = config.training.calibration, config.contract.task
    calibrator = fit_calibrator(kind, scores, labels.astype(np.int64), task)
    changes: dict[str, object] = {
        "run": run,
        "kind": "recalibrated",
        "parent": champion.digest,
        "created_at": at,
        "dataset": dataset,
        "held_out_days": held_out_days,
        "evaluation": evaluate(labels, calibrator.apply(scores), seed=champion.seed),
    }
    described = champion.model_copy(update={**changes, "trained_until": at})
    facts = described.model_dump(mode="json", include=set(changes))
    card = {**bundle.card, **facts, "dataset": dataset.content}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        bundle.with_calibrator(calibrator, card).save(path)
        return described.model_copy(update={"digest": store.artifacts.put(path)})


def _gate_rows(
    config: Config, rows: pa.Table, champion: ModelVersion, start: datetime
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Keep out what the champion's own split keeps out; give also the days that are kept out."""
    if champion.held_out_share is not None:
        return held_out(rows, champion, config.contract), ()
    days = day_numbers(rows["prediction_time"])
    every = config.training.split.gate_every_days
    is_gate = days % every == config.training.seed % every
    kept = {day_of(number).isoformat() for number in np.unique(days[is_gate])}
    kept |= {day for day in champion.held_out_days if day < start.date().isoformat()}
    return is_gate, tuple(sorted(kept))

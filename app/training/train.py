"""Train one version on the cluster: snapshot, encoder from merged statistics, TorchTrainer, bundle.

Knows Ray Data, Ray Train and the run's folder; what is computed is in assembly.py and fitting.py. A
run is named by its caller and idempotent by that name: finished, it returns its result again;
interrupted, it goes on.
"""

import logging
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.train import (
    CheckpointConfig,
    DataConfig,
    FailureConfig,
    Result,
    RunConfig,
    TrainingFailedError,
    UserCallback,
)
from ray.train.torch import TorchTrainer
from ray.train.xgboost import XGBoostTrainer

from app.config import Config
from app.contracts.circumstances import Circumstances
from app.contracts.erasure import Reduction
from app.contracts.records import DatasetVersion, TrainingResult
from app.contracts.rows import Contract
from app.data.features import Encoder, Statistics
from app.data.history import windows_of_any_size
from app.data.snapshots import load_snapshot
from app.data.tables import open_tables
from app.model.manifest import read_folder, write_file
from app.registry.artifacts import Artifacts
from app.training.assembly import SECTIONS, Fitted, assemble
from app.training.circumstances import circumstances_here
from app.training.following import Follower
from app.training.loop import train_loop
from app.training.needs import RunFailed, raise_hopeless
from app.training.plans import (
    RunPlan,
    begin_plan,
    find_result,
    fingerprint_of,
    refuse_other_rows,
    run_folder,
    write_circumstances,
    write_result,
)
from app.training.progress import Unwatched, Watch
from app.training.reporting import REPORT_FILE, report_on
from app.training.room import (
    Waiting,
    refuse_too_large,
    refuse_too_many,
    scaling,
    worker_environment,
)
from app.training.state import FitState
from app.training.window import LIST, Window, encode_rows, open_window, required_columns
from app.training.workers import read_workers

BLOCK_ROWS = 25_000
# Small, so that preparing data finds room beside serving, the monitor and the steward on two cores.
DATA_CPUS = 0.5


def train(
    config: Config,
    dataset: DatasetVersion,
    run: str,
    created_at: datetime,
    *,
    reductions: Sequence[Reduction] = (),
    watch: Watch | None = None,
) -> TrainingResult:
    """Train on a snapshot and put the bundle into the artifact store; `watch` hears how it goes.

    Resumes after the death of a worker or of this process from the last complete epoch. The same
    run again returns the same result. Raises ValueError when the name was used with other data or
    settings, when the rows cannot be trained on, or when the cluster can never hold the workers;
    SnapshotAltered when the rows are not those that were pinned, nor those that the given
    reductions, made by erasures, left of them; TrainingDiverged when a loss is no number; RunFailed
    when workers keep failing.
    """
    if (finished := _finished(config, dataset, run)) is not None:
        return finished
    started = time.perf_counter()
    quieten_data()
    watch = watch or Unwatched()
    refuse_too_many(config.training)
    new = RunPlan(
        dataset=dataset,
        created_at=created_at,
        configuration=config.model_dump(mode="json"),
        circumstances=circumstances_here(),
    )
    plan = begin_plan(config, run, new)
    watch.phase(f"loading {plan.dataset.num_rows:,} rows")
    table = load_snapshot(
        open_tables(config), config.contract, plan.dataset, reductions, windows_of_any_size
    )
    window = open_window(config, table, plan.dataset.end)
    watch.phase(f"fitting the encoder to {len(window.train):,} rows")
    encoder = _fit_encoder(config, window)
    outcome = _fit_network(config, window, encoder, plan.dataset, run, watch)
    raise_hopeless(run, outcome.return_value)  # type: ignore[attr-defined]
    state = _best_state(outcome, fingerprint_of(config, plan.dataset))
    watch.phase("calibrating, evaluating and storing the model")
    made_under = _made_under(new, outcome)
    # Neither the run's name nor its time: equal rows, settings and code make one bundle.
    fitted = assemble(config, window, encoder, state, {"dataset": plan.dataset.content})
    _store(config, fitted)
    _report(config, fitted, run)
    write_circumstances(config, run, made_under)
    version = fitted.version(config, plan.dataset, run, plan.created_at)
    result = TrainingResult(
        version=version.model_copy(update={"circumstances": made_under.digest}),
        seconds=time.perf_counter() - started,
        num_epochs=len(state.epochs),
        rows_per_second=float((outcome.metrics or {}).get("rows_per_second", 0.0)),
    )
    write_result(config, run, result)
    return result


def _made_under(plan: RunPlan, outcome: Result) -> Circumstances:
    """Join what was seen where the run was begun with what its workers saw of themselves."""
    assert plan.circumstances is not None
    assert outcome.checkpoint is not None
    with outcome.checkpoint.as_directory() as folder:
        workers = read_workers(read_folder(Path(folder)))
    return plan.circumstances.model_copy(update={"workers": workers})


def quieten_data() -> None:
    """Leave the output to what people read: the job's own lines."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _finished(config: Config, dataset: DatasetVersion, run: str) -> TrainingResult | None:
    result = find_result(config, run)
    if result is None:
        return None
    refuse_other_rows(result.version.dataset, dataset, run)
    if result.version.config_digest != config.digest_of(*SECTIONS):
        raise ValueError(f"run {run} was made with other settings; give this run another name")
    return result


def _fit_encoder(config: Config, window: Window) -> Encoder:
    """Fit the encoder from statistics that are collected block by block and merged."""
    collected = _blocks(config.contract, window.train).map_batches(
        partial(_collect, contract=config.contract.model_dump_json()),
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=DATA_CPUS,
    )
    parts = [Statistics.from_bytes(row["statistics"]) for row in collected.take_all()]
    return Encoder.fit(Statistics.merge_all(parts), config.features)


def _fit_network(
    config: Config,
    window: Window,
    encoder: Encoder,
    dataset: DatasetVersion,
    run: str,
    watch: Watch,
) -> Result:
    """Run the workers."""
    folder = run_folder(config, run)
    needs = refuse_too_large(config, window, encoder, watch)
    watch.phase(f"encoding {len(window.labelled_train) + len(window.labelled_stop):,} rows")
    trainer = make_trainer(config, window, encoder, fingerprint_of(config, dataset), folder)
    watch.phase(f"starting {config.training.num_workers} worker(s)")
    try:
        with Follower(folder, watch, Waiting(needs)):
            return trainer.fit()
    except TrainingFailedError as error:
        raise RunFailed.after(run, config.training.max_failures + 1, str(error)) from error


def make_trainer(
    config: Config,
    window: Window,
    encoder: Encoder,
    fingerprint: str,
    folder: Path,
    callbacks: Sequence[UserCallback] = (),
) -> TorchTrainer | XGBoostTrainer:
    """Make the trainer of a run, which keeps its checkpoints in a folder and goes on from them."""
    training = config.training
    trainer_class = XGBoostTrainer if training.model == "trees" else TorchTrainer
    return trainer_class(
        train_loop,  # type: ignore[arg-type]  # What it returns is Result.return_value.
        train_loop_config={
            "training": training.model_dump_json(),
            "shape": encoder.shape.model_dump_json(),
            "task": window.task.model_dump(),
            "fingerprint": fingerprint,
            "folder": str(folder),
        },
        datasets={
            "train": _encoded(config.contract, encoder, window.labelled_train),
            "stop": _encoded(config.contract, encoder, window.labelled_stop),
        },
        # Ray would deal blocks to whoever asks first, so that no two runs were alike: every worker
        # reads all blocks, and keeps its own rows of those to train on.
        dataset_config=DataConfig(datasets_to_split=[]),
        scaling_config=scaling(training),
        run_config=RunConfig(  # type: ignore[call-arg]  # Typed as the version before.
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=FailureConfig(max_failures=training.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            callbacks=list(callbacks),  # type: ignore[arg-type]
            worker_runtime_env={"env_vars": worker_environment(training)},
        ),
    )


def _blocks(contract: Contract, table: pa.Table) -> ray.data.Dataset:
    """Hand a table to Ray Data in blocks, with each row's place."""
    lists = [LIST] if LIST in table.column_names else []
    chosen = table.select([*required_columns(contract), *lists]).append_column(
        "place", pa.array(np.arange(len(table)))
    )
    return ray.data.from_arrow(
        [chosen.slice(first, BLOCK_ROWS) for first in range(0, max(len(chosen), 1), BLOCK_ROWS)]
    )


def _encoded(contract: Contract, encoder: Encoder, table: pa.Table) -> ray.data.Dataset:
    """Encode on the cluster, at once: no data task competes with a waiting worker for a CPU."""
    encode = partial(_encode, encoder=encoder.to_json())
    blocks = _blocks(contract, table).map_batches(
        encode, batch_format="pyarrow", batch_size=None, num_cpus=DATA_CPUS
    )
    encoded: ray.data.Dataset = blocks.materialize()
    return encoded


def _collect(block: pa.Table, contract: str) -> dict[str, Any]:
    """Collect the statistics of one block; the contract travels as JSON, statistics as Arrow."""
    statistics = Statistics.collect(block, Contract.model_validate_json(contract))
    return {"statistics": [statistics.to_bytes()]}


def _encode(block: pa.Table, encoder: bytes) -> dict[str, Any]:
    """Encode one block."""
    rows = encode_rows(Encoder.from_json(encoder), block)
    encoded = {
        "numbers": rows.encoded.numbers,
        "categories": rows.encoded.categories,
        "label": rows.labels,
        "place": block["place"].to_numpy(),
    }
    return encoded if rows.groups is None else {**encoded, "list": rows.groups}


def _best_state(outcome: Result, fingerprint: str) -> FitState:
    if outcome.error is not None:
        raise outcome.error
    assert outcome.checkpoint is not None
    with outcome.checkpoint.as_directory() as folder:
        return FitState.from_files(read_folder(Path(folder)), fingerprint)


def _report(config: Config, fitted: Fitted, run: str) -> None:
    """Write beside the run how the version does; no part of the bundle, so that bytes stay."""
    report = report_on(
        fitted.searched,
        fitted.window.labelled_stop,
        config.evaluation,
        run=run,
        seed=config.training.seed,
        by_day=config.training.split.by == "day",
    )
    write_file(run_folder(config, run) / REPORT_FILE, report.model_dump_json(indent=1).encode())


def _store(config: Config, fitted: Fitted) -> None:
    """Put the bundle into the artifact store."""
    config.artifacts_path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=config.artifacts_path, prefix=".new-") as folder:
        path = Path(folder) / "bundle"
        fitted.bundle.save(path)
        digest = Artifacts(config.artifacts_path).put(path)
    assert digest == fitted.bundle.digest

"""Train one version on the cluster: snapshot, encoder from merged statistics, TorchTrainer, bundle.

Small data may be trained in this process, without a cluster, to the same bytes. Knows Ray Data, Ray
Train and the run's folder; what is computed is in assembly.py, fitting.py and local.py. A run is
named by its caller and idempotent by that name: finished, it returns its result again; interrupted,
it goes on.
"""

import logging
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

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
from ray.train.data_parallel_trainer import DataParallelTrainer
from ray.train.torch import TorchTrainer

from app.config import Config
from app.contracts.erasure import Reduction
from app.contracts.records import DatasetVersion, TrainingResult
from app.data.features import Encoder, Statistics
from app.data.history import windows_of_any_size
from app.data.snapshots import load_snapshot
from app.data.tables import open_tables
from app.data.windows import window_values
from app.model.manifest import read_folder, write_file
from app.model.trees import xgboost
from app.registry.artifacts import Artifacts
from app.sections import TrainingConfig
from app.training.assembly import SECTIONS, Fitted, assemble
from app.training.blocks import encoded_blocks, fit_encoder
from app.training.checkpoints import CheckpointFailed
from app.training.circumstances import circumstances_here
from app.training.divergence import TrainingDiverged
from app.training.following import Follower
from app.training.local import Trained, fit_here, is_in_process
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
from app.training.window import Window, open_window
from app.training.workers import read_workers


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
    watch = watch or Unwatched()
    in_process = is_in_process(config, dataset)
    if not in_process:
        quieten_data()
        refuse_too_many(config.training)
    here = circumstances_here()
    new = RunPlan(
        dataset=dataset,
        created_at=created_at,
        configuration=config.model_dump(mode="json"),
        circumstances=here,
    )
    plan = begin_plan(config, run, new)
    watch.phase(f"loading {plan.dataset.num_rows:,} rows")
    compute = window_values if in_process else windows_of_any_size
    table = load_snapshot(open_tables(config), config.contract, plan.dataset, reductions, compute)
    window = open_window(config, table, plan.dataset.end)
    watch.phase(f"fitting the encoder to {len(window.train):,} rows")
    encoder, trained = (_fit_in_process if in_process else _fit_on_workers)(
        config, window, plan.dataset, run, watch
    )
    watch.phase("calibrating, evaluating and storing the model")
    made_under = here.model_copy(update={"workers": trained.workers})
    # Neither the run's name nor its time: equal rows, settings and code make one bundle.
    fitted = assemble(config, window, encoder, trained.state, {"dataset": plan.dataset.content})
    _store(config, fitted)
    _report(config, fitted, run)
    write_circumstances(config, run, made_under)
    version = fitted.version(config, plan.dataset, run, plan.created_at)
    result = TrainingResult(
        version=version.model_copy(update={"circumstances": made_under.digest}),
        seconds=time.perf_counter() - started,
        num_epochs=len(trained.state.epochs),
        rows_per_second=trained.rows_per_second,
    )
    write_result(config, run, result)
    return result


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


def _fit_in_process(
    config: Config, window: Window, dataset: DatasetVersion, run: str, watch: Watch
) -> tuple[Encoder, Trained]:
    """Fit encoder and network here."""
    encoder = Encoder.fit(Statistics.collect(window.train, config.contract), config.features)
    watch.phase("training in this process")
    folder, fingerprint = run_folder(config, run), fingerprint_of(config, dataset)
    with Follower(folder, watch):
        try:
            return encoder, fit_here(config, window, encoder, fingerprint, folder)
        except (TrainingDiverged, CheckpointFailed) as error:
            raise_hopeless(run, {"kind": type(error).__name__, "told": str(error)})
            raise


def _fit_on_workers(
    config: Config, window: Window, dataset: DatasetVersion, run: str, watch: Watch
) -> tuple[Encoder, Trained]:
    """Fit encoder and network on the cluster."""
    encoder = fit_encoder(config, window)
    outcome = _fit_network(config, window, encoder, dataset, run, watch)
    raise_hopeless(run, outcome.return_value)  # type: ignore[attr-defined]
    return encoder, read_trained(outcome, fingerprint_of(config, dataset))


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
) -> DataParallelTrainer:
    """Make the trainer of a run, which keeps its checkpoints in a folder and goes on from them."""
    training = config.training
    return _trainer_class(training)(
        train_loop,  # type: ignore[arg-type]  # What it returns is Result.return_value.
        train_loop_config={
            "training": training.model_dump_json(),
            "shape": encoder.shape.model_dump_json(),
            "task": window.task.model_dump(),
            "fingerprint": fingerprint,
            "folder": str(folder),
            "background": config.cluster.background,
        },
        datasets={
            "train": encoded_blocks(config.contract, encoder, window.labelled_train),
            "stop": encoded_blocks(config.contract, encoder, window.labelled_stop),
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


def _trainer_class(training: TrainingConfig) -> type[DataParallelTrainer]:
    """Choose the trainer. Raises ValueError for trees where XGBoost, an extra, is not installed."""
    if training.model == "network":
        return TorchTrainer
    xgboost()
    from ray.train.xgboost import XGBoostTrainer

    return XGBoostTrainer


def read_trained(outcome: Result, fingerprint: str) -> Trained:
    """Read the last state of a run on workers, and what they saw of themselves."""
    if outcome.error is not None:
        raise outcome.error
    assert outcome.checkpoint is not None
    with outcome.checkpoint.as_directory() as folder:
        files = read_folder(Path(folder))
    speed = float((outcome.metrics or {}).get("rows_per_second", 0.0))
    return Trained(FitState.from_files(files, fingerprint), speed, read_workers(files))


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

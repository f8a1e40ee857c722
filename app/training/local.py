"""Train in this process what Ray workers would train, with the same checkpoints and bytes.

For data that one process trains in less time than a cluster takes to start. A run that was begun
here may go on on workers, and the other way round: checkpoints and the record of progress are the
same. Knows the fitting core and a run's folder; knows nothing of Ray, tables or the registry.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from app.config import Config
from app.contracts.circumstances import Surroundings
from app.contracts.records import DatasetVersion
from app.data.features import Encoder
from app.training.assembly import Material, fit_material
from app.training.checkpoints import CheckpointFailed, Checkpoints, read_checkpoints
from app.training.circumstances import sum_in_one_order, surroundings_here
from app.training.progress import ProgressWriter
from app.training.state import FitState
from app.training.window import Window
from app.training.workers import add_workers, read_workers, write_workers

# An epoch of them takes a core half a minute: what a cluster and its workers take to start.
MOST_ROWS_HERE = 1_000_000


@dataclass(frozen=True)
class Trained:
    """What came of a run's epochs, and who worked on them."""

    state: FitState
    rows_per_second: float
    """0 where nothing was left to train."""
    workers: tuple[Surroundings, ...]


def is_in_process(config: Config, dataset: DatasetVersion) -> bool:
    """Tell whether a run of these rows is trained in the process that was asked for it.

    Raises ValueError for settings that one process cannot meet.
    """
    training = config.training
    single = training.num_workers == 1 and training.max_workers is None
    if training.placement == "in_process" and not single:
        raise ValueError(
            f"training.placement in_process has one worker, got training.num_workers "
            f"{training.num_workers} and max_workers {training.max_workers}; set num_workers to 1 "
            "and no max_workers, or placement to workers"
        )
    if training.placement != "auto":
        return training.placement == "in_process"
    return single and not training.use_gpu and dataset.num_rows <= MOST_ROWS_HERE


def fit_here(
    config: Config, window: Window, encoder: Encoder, fingerprint: str, folder: Path
) -> Trained:
    """Fit, with a checkpoint in the run's folder after each epoch, as the first worker would.

    Goes on from the last whole checkpoint. Raises what `fit_material` raises, CheckpointFailed
    where one could not be written, and ValueError for a GPU that is not there.
    """
    training = config.training
    if training.use_gpu and not torch.cuda.is_available():
        raise ValueError("training.use_gpu is set and torch sees no GPU; set it to false")
    with _as_a_worker(training.threads_per_worker):
        if training.use_gpu and training.deterministic:
            sum_in_one_order()
        found = read_checkpoints(folder, fingerprint)
        kept = found[max(found)] if found else None
        device = "cuda" if training.use_gpu else "cpu"
        here = surroundings_here(rank=0, device=device).model_dump_json()
        workers = add_workers(read_workers(kept.files if kept else {}), [here])
        if kept and kept.state.is_finished(training):
            return Trained(kept.state, 0.0, workers)
        attempt, resume = uuid.uuid4().hex, kept.state if kept else None
        with Checkpoints(folder, fingerprint, attempt, write_workers(workers)) as checkpoints:
            clock = time.perf_counter
            writer = ProgressWriter(folder, training, resume or FitState(), clock, attempt)

            def after_epoch(state: FitState) -> None:
                writer.after_epoch(state)
                _refuse_failure(checkpoints)
                checkpoints.save(state)
                writer.go_on()

            state = fit_material(
                config,
                Material.of(window, encoder),
                resume=resume,
                on_epoch=after_epoch,
                on_step=writer.step,
            )
            checkpoints.last(state)
        return Trained(state, writer.rate, workers)


def _refuse_failure(checkpoints: Checkpoints) -> None:
    if (told := checkpoints.failure()) is not None:
        raise CheckpointFailed(told)


@contextlib.contextmanager
def _as_a_worker(num_threads: int) -> Iterator[None]:
    """Compute with a worker's number of threads: another number gives other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(num_threads, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Train in this process what Ray workers would train, with the same checkpoints and bytes.

For data that one process trains in less time than a cluster takes to start. A checkpoint is a
folder with its manifest written last; an incomplete or altered one is not resumed from. Knows the
fitting core and one folder; knows nothing of Ray, tables or the registry.
"""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from app.config import Config
from app.contracts.circumstances import Surroundings
from app.contracts.records import DatasetVersion
from app.data.features import Encoder
from app.model.manifest import ArtifactAltered, read_folder, write_folder
from app.training.assembly import fit_window
from app.training.circumstances import sum_in_one_order, surroundings_here
from app.training.state import FitState
from app.training.window import Window
from app.training.workers import add_workers, read_workers, write_workers

logger = logging.getLogger(__name__)

# An epoch of them takes a core half a minute: what a cluster and its workers take to start.
MOST_ROWS_HERE = 1_000_000
NUM_KEPT = 2


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
    if training.placement == "in_process" and training.num_workers > 1:
        raise ValueError(
            f"training.placement in_process has one worker, got training.num_workers "
            f"{training.num_workers}; set num_workers to 1 or placement to workers"
        )
    if training.placement != "auto":
        return training.placement == "in_process"
    single = training.num_workers == 1 and not training.use_gpu
    return single and dataset.num_rows <= MOST_ROWS_HERE


def fit_here(
    config: Config, window: Window, encoder: Encoder, fingerprint: str, folder: Path
) -> Trained:
    """Fit, with a checkpoint in the folder after each epoch.

    Goes on from the last complete checkpoint. Raises what `fit_window` raises, and ValueError for a
    GPU that is not there.
    """
    training = config.training
    if training.use_gpu and not torch.cuda.is_available():
        raise ValueError("training.use_gpu is set and torch sees no GPU; set it to false")
    with _threads(training.threads_per_worker):
        device = "cuda" if training.use_gpu else "cpu"
        if training.use_gpu and training.deterministic:
            sum_in_one_order()
        checkpoints = _Checkpoints(folder, fingerprint, surroundings_here(rank=0, device=device))
        state = checkpoints.latest()
        if state is None or not state.is_finished(training):
            state = fit_window(config, window, encoder, resume=state, on_epoch=checkpoints.add)
    return Trained(state, checkpoints.rows_per_second, checkpoints.workers)


class _Checkpoints:
    """The last states of a run, each a numbered folder."""

    def __init__(self, folder: Path, fingerprint: str, here: Surroundings) -> None:
        self._folder, self._fingerprint, self._here = folder, fingerprint, here
        self.workers: tuple[Surroundings, ...] = (here,)
        self._since = time.perf_counter()
        self._seconds, self._num_rows = 0.0, 0

    @property
    def rows_per_second(self) -> float:
        """Rows learned from a second of training, checkpoints left out."""
        return self._num_rows / self._seconds if self._seconds else 0.0

    def latest(self) -> FitState | None:
        """Read the last complete state; None to start at the beginning."""
        for place in reversed(self._places()):
            try:
                files = read_folder(place)
            except ArtifactAltered as error:
                # The run is deterministic: an earlier start costs time and changes nothing.
                logger.warning("checkpoint not used, an earlier one is: %s", error)
                continue
            state = FitState.from_files(files, self._fingerprint)
            self.workers = add_workers(read_workers(files), [self._here.model_dump_json()])
            return state
        return None

    def add(self, state: FitState) -> None:
        """Write a state and remove all but the last ones."""
        self._seconds += time.perf_counter() - self._since
        self._num_rows += state.latest.num_rows
        number = len(state.epochs) + len(state.refit_epochs)
        place = self._folder / f"{number:05d}"
        shutil.rmtree(place, ignore_errors=True)
        files = {**state.to_files(self._fingerprint), **write_workers(self.workers)}
        write_folder(place, files)
        for older in self._places()[:-NUM_KEPT]:
            shutil.rmtree(older)
        self._since = time.perf_counter()

    def _places(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]" * 5)) if self._folder.exists() else []


@contextlib.contextmanager
def _threads(num_threads: int) -> Iterator[None]:
    """Compute with a worker's number of threads: another number gives other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(num_threads, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)

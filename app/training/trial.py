"""What one trial does: fit within this process, with a checkpoint an epoch in a folder.

Knows encoded rows, fitting and the trial's folder; knows nothing of Ray, of other trials or of what
comes next. A trial whose process died goes on from its last complete epoch.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from app.config import Config
from app.data.features import Encoder, Statistics
from app.model.manifest import ArtifactAltered, read_folder, write_folder
from app.model.tasks import LearningTask
from app.sections import FeaturesConfig
from app.training.assembly import Material, fit_material
from app.training.rows import Rows
from app.training.state import Epoch, FitState
from app.training.window import Window, encode_rows

TellEpoch = Callable[[Epoch, float], None]


class EncodedRows:
    """The rows of a search as an encoder sees them; what encoders are fitted from is kept."""

    def __init__(self, window: Window) -> None:
        """Collect the statistics of the rows to train on."""
        self._statistics = Statistics.collect(window.train, window.contract)
        self._window = window

    @property
    def task(self) -> LearningTask:
        """What is learned from the rows."""
        return self._window.task

    def encoder(self, features: FeaturesConfig) -> Encoder:
        """Fit an encoder with these settings."""
        return Encoder.fit(self._statistics, features)

    def rows(self, encoder: Encoder) -> tuple[Rows, Rows]:
        """Encode the rows to train on and those to stop."""
        window = self._window
        return (
            encode_rows(encoder, window.labelled_train),
            encode_rows(encoder, window.labelled_stop),
        )


def run_trial(
    config: Config,
    material: Material,
    folder: Path,
    fingerprint: str,
    tell: TellEpoch,
) -> None:
    """Fit on the rows to train on, judge on the rows to stop, and tell every epoch as it ends.

    Epochs of an earlier process are told again, with no seconds. Raises TrainingDiverged.
    """
    state = last_state(folder, fingerprint)
    for epoch in state.epochs if state else ():
        tell(epoch, 0.0)
    if state is not None and state.is_finished(config.training):
        return
    since = time.perf_counter()

    def after_epoch(state: FitState) -> None:
        nonlocal since
        save_state(folder, state, fingerprint)
        tell(state.latest, time.perf_counter() - since)
        since = time.perf_counter()

    fit_material(config, material, resume=state, on_epoch=after_epoch)


def save_state(folder: Path, state: FitState, fingerprint: str) -> None:
    """Write a checkpoint; the one before goes when this one is complete."""
    path = _checkpoint(folder, len(state.epochs))
    # What a process that died here left half written.
    shutil.rmtree(path, ignore_errors=True)
    write_folder(path, state.to_files(fingerprint))
    for earlier in folder.glob("epoch-*"):
        if earlier != path:
            shutil.rmtree(earlier)


def last_state(folder: Path, fingerprint: str) -> FitState | None:
    """Read the last complete checkpoint of a trial's folder; None to start at the beginning."""
    for path in sorted(folder.glob("epoch-*"), reverse=True):
        try:
            return FitState.from_files(read_folder(path), fingerprint)
        except ArtifactAltered:
            # Torn by the death of its writer: the one before is still there.
            continue
    return None


def _checkpoint(folder: Path, number: int) -> Path:
    return folder / f"epoch-{number:05d}"

"""A run's checkpoints: written beside the training, taken up again only when whole.

Knows folders, a thread and a run's state; knows nothing of Ray or of how a network is trained. Each
checkpoint is a folder with a manifest, written under another name, synced and renamed. The folder
of the run must be one that every worker sees.
"""

import errno
import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from app.model.manifest import ArtifactAltered, read_folder, sync_folder, write_folder
from app.training.needs import size
from app.training.state import FitState

logger = logging.getLogger(__name__)

PREFIX = "epoch_"
ASIDE = ".new-"
KEPT = 2
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class CheckpointFailed(OSError):
    """A checkpoint could not be written: what is trained from here on would be lost."""


class Checkpoints:
    """The checkpoints in a run's folder, for the one worker that writes them."""

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        attempt: str,
        more: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write into `folder`; `attempt` names this process, `more` are files to go with each."""
        self._folder, self._fingerprint, self._attempt = folder, fingerprint, attempt
        self._more = more or {}
        self._writing: Future[Path] | None = None
        self._writer = ThreadPoolExecutor(1, "checkpoint")

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Let what is being written end."""
        self._writer.shutdown()

    def failure(self) -> str | None:
        """Wait for the checkpoint that is being written; say why that failed, or None."""
        if self._writing is None:
            return None
        error = self._writing.exception()
        if error is None:
            return None
        if not isinstance(error, OSError):
            raise error
        return str(error)

    def save(self, state: FitState) -> None:
        """Begin to write a state, which must not change; failure() tells how it went."""
        self._writing = self._writer.submit(self._write, state)

    def last(self, state: FitState) -> Path:
        """Give the folder of the last state's checkpoint, written now where this process did not.

        Raises what writing raised.
        """
        if self._writing is None:
            self.save(state)
        assert self._writing is not None
        return self._writing.result()

    def _write(self, state: FitState) -> Path:
        files = {**state.to_files(self._fingerprint), **self._more}
        name = f"{PREFIX}{num_epochs(state):05d}_{self._attempt[:8]}"
        aside, place = self._folder / f"{ASIDE}{name}", self._folder / name
        # What killed processes left half written takes room.
        for left in self._folder.glob(f"{ASIDE}{PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        try:
            write_folder(aside, files)
            aside.rename(place)
            sync_folder(self._folder)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise CheckpointFailed(self._explain(error, files)) from error
        self._forget(place)
        return place

    def _explain(self, error: OSError, files: Mapping[str, bytes]) -> str:
        told = f"the checkpoint in {self._folder} could not be written: {error.strerror or error}"
        if error.errno not in FULL:
            return told
        need = sum(len(content) for content in files.values())
        # The new one is whole before the oldest goes.
        return (
            f"{told}; one takes {size(need)} and {KEPT + 1} are kept at a time, free are "
            f"{size(shutil.disk_usage(self._folder).free)}: make room there, then the same command "
            "goes on after the last whole epoch"
        )

    def _forget(self, newest: Path) -> None:
        """Keep the latest few, as they are named; the one just written is one of them."""
        others = sorted(path for path in self._folder.glob(f"{PREFIX}*") if path != newest)
        for old in others[: max(len(others) - KEPT + 1, 0)]:
            shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class Kept:
    """A whole checkpoint."""

    state: FitState
    files: Mapping[str, bytes]
    """All of them, what was given to go with the state too."""


def num_epochs(state: FitState) -> int:
    """Count the epochs of a state, those of the refit too."""
    return len(state.epochs) + len(state.refit_epochs)


def read_checkpoints(folder: Path, fingerprint: str) -> dict[int, Kept]:
    """Read the whole checkpoints of a run, by number of epochs; others are passed over.

    Raises ValueError when they belong to other data or settings.
    """
    found: dict[int, Kept] = {}
    for path in sorted(folder.glob(f"{PREFIX}*")):
        try:
            files = read_folder(path)
        except (ArtifactAltered, FileNotFoundError) as error:
            # The run is deterministic: an earlier one costs time and changes nothing.
            logger.warning("checkpoint not used: %s", error)
            continue
        state = FitState.from_files(files, fingerprint)
        found[num_epochs(state)] = Kept(state, files)
    return found

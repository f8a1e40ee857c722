"""Follow a run while its workers train: read the record beside it now and then, and tell.

Knows the record, a thread and who is told; knows nothing of Ray or of how it is shown.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Self

from app.background import Rounds
from app.training.progress import FILE, RunProgress, Watch, read_progress

PAUSE_SECONDS = 0.5


class Follower:
    """Tells a watch of each new record beside a run, for the length of a `with` block."""

    def __init__(
        self, folder: Path, watch: Watch, waiting: Callable[[], str | None] = lambda: None
    ) -> None:
        """Follow the run in `folder`.

        `waiting` is asked while no worker has told anything: what the run waits for, or None.
        """
        self._folder, self._watch, self._waiting = folder, watch, waiting
        self._last: RunProgress | None = None
        self._told: str | None = None
        self._rounds = Rounds("training-progress", self._look, PAUSE_SECONDS)

    def __enter__(self) -> Self:
        """Forget what an earlier process left, and begin."""
        (self._folder / FILE).unlink(missing_ok=True)
        self._rounds.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Tell what came last, and end."""
        self._rounds.stop()
        self._look()

    def _look(self) -> float:
        now = read_progress(self._folder)
        if now is None and self._last is None:
            self._tell_wait()
        elif now is not None and now != self._last:
            self._last = now
            self._watch.progress(now)
        return PAUSE_SECONDS

    def _tell_wait(self) -> None:
        what = self._waiting()
        if what is not None and what != self._told:
            self._told = what
            self._watch.phase(what)

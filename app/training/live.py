"""Send a run to MLflow while it runs: in a thread of its own, so that training never waits for it.

Knows a queue, a thread and the tracked run; knows nothing of how a model is trained. Whatever
becomes of MLflow, the training goes on: what could not be sent is sent at the end, or told to be
missing.
"""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from app.config import Config
from app.contracts.records import DatasetVersion, TrainingResult
from app.training.progress import RunProgress
from app.training.tracking import End, TrackedRun

logger = logging.getLogger(__name__)

END_SECONDS = 300.0
Act = Callable[[TrackedRun], None]


class LiveRun:
    """A watch that shows a run in MLflow."""

    def __init__(
        self,
        config: Config,
        run: str,
        dataset: DatasetVersion,
        clock: Callable[[], datetime],
    ) -> None:
        """Begin in the background; `clock` gives the time that MLflow shows."""
        self._open = partial(TrackedRun.open, config, run, dataset, clock)
        self._tracked: TrackedRun | None = None
        self._acts: queue.SimpleQueue[Act | None] = queue.SimpleQueue()
        self._num_ended = 0
        self._thread = threading.Thread(target=self._send, name="mlflow", daemon=True)
        self._thread.start()

    def phase(self, what: str) -> None:
        """Pass over it: MLflow shows numbers."""

    def progress(self, now: RunProgress) -> None:
        """Send epochs that ended."""
        if len(now.ended) > self._num_ended:
            self._num_ended = len(now.ended)
            self._acts.put(lambda tracked: tracked.epochs(now.ended, now.rows_per_second))

    def finish(self, result: TrainingResult, folder: Path) -> None:
        """Send what came out, with the bundle's files in `folder`."""
        self._acts.put(lambda tracked: tracked.finish(result, folder))

    def fail(self, how: End, reason: str) -> None:
        """Send that the run ended without a version."""
        self._acts.put(lambda tracked: tracked.fail(how, reason))

    def close(self) -> None:
        """Wait until all is sent, and say so when it is not."""
        self._acts.put(None)
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            logger.warning("the run is not shown whole in MLflow: no end after %s s", END_SECONDS)

    def _send(self) -> None:
        """Do one act after the other; the first one opens the run, as often as that failed."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        act: Act | None = _nothing
        while act is not None:
            try:
                self._tracked = self._tracked or self._open()
                if self._tracked is None:
                    return
                act(self._tracked)
            except (MlflowException, SQLAlchemyError, OSError) as error:
                logger.warning("the run is not shown in MLflow: %s", error)
            act = self._acts.get()


def _nothing(tracked: TrackedRun) -> None:
    """Only open the run."""


@contextlib.contextmanager
def shown_live(live: LiveRun) -> Iterator[LiveRun]:
    """Tell MLflow how a run ends that fails or is ended within a `with` block."""
    try:
        yield live
    except (KeyboardInterrupt, SystemExit):
        live.fail("KILLED", "ended from outside")
        raise
    except Exception as error:
        live.fail("FAILED", str(error))
        raise
    finally:
        live.close()

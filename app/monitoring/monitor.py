"""The monitoring actor: a thread that ticks the tail, exports its metrics, has reports drawn apart.

The shell around the fold. Serving does not depend on it: it may be slow, killed or away, and then
catches up.
"""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import ray

from app import telemetry
from app.background import Rounds
from app.config import Config
from app.contracts.records import DatasetVersion
from app.contracts.targets import require_binary
from app.ledger.database import open_ledger
from app.ledger.decisions import read_decisions
from app.ledger.epochs import Fenced
from app.ledger.losses import read_losses
from app.monitoring import metrics
from app.monitoring.alarms import Alarm
from app.monitoring.evidence import Window
from app.monitoring.metrics import Exporter
from app.monitoring.reports import report_window
from app.monitoring.tail import Tail, Tick
from app.registry.store import read_roles
from app.session import namespace

logger = logging.getLogger(__name__)
ACTOR_NAME = "monitor"
MAX_PAUSE_SECONDS = 10.0
NUM_REPORTS_TOLD = 5


class Reporter:
    """Draws one report at a time as a Ray task, in a process that ends with it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._task: Any = None

    def start(self, dataset: DatasetVersion, window: Window, name: str) -> bool:
        """Begin a report; False when the one before is still under way."""
        if self._task is not None:
            return False
        # It needs no CPU of its own to be scheduled: it waits for nobody and nobody for it.
        draw = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(draw_report)
        self._task = draw.remote(self._config, dataset, window, name)
        return True

    def finished(self) -> str | None:
        """Give the path of a report written since the last call; raise what made it fail."""
        if self._task is None or not ray.wait([self._task], timeout=0)[0]:
            return None
        task, self._task = self._task, None
        return str(ray.get(task))


def draw_report(config: Config, dataset: DatasetVersion, window: Window, name: str) -> str:
    """Write the report of a window and return its page's path; gives way to everything else."""
    os.nice(15)
    return str(report_window(config, dataset, window, name).html)


class Monitor:
    """Ticks a model's tail in a thread until it is stopped or replaced."""

    def __init__(
        self,
        config: Config,
        reporter: Reporter | None = None,
        when_replaced: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the ledger, take over as monitor, serve metrics; `start` begins the ticking."""
        self._config = config
        self._when_replaced = when_replaced
        self._ledger = open_ledger(config.ledger_url)
        self._tail = Tail(config, self._ledger)
        self._reporter = reporter
        self._alarm: Alarm | None = None
        self._is_first = True
        self._exporter = Exporter(config.name)
        self._server, port = self._exporter.serve(
            config.monitoring.metrics_host, config.monitoring.metrics_port
        )
        self.metrics_url = f"http://{config.monitoring.metrics_host}:{port}/metrics"
        self._pause = config.monitoring.poll_seconds
        self._rounds = Rounds("monitor", self._round, self._pause)

    def start(self) -> None:
        """Begin to tick in the background."""
        self._rounds.start()

    def stop(self) -> None:
        """End the ticking and the metrics; what was folded is recorded or will be read again."""
        self._rounds.stop()
        self._server.shutdown()
        self._server.server_close()
        self._ledger.close()

    def tick(self) -> Tick:
        """Look at the logs once."""
        losses = read_losses(self._ledger, self._config.name)
        detail = {
            "metrics_url": self.metrics_url,
            "reports": self._reports(),
            "num_lost_predictions": sum(x.num_rows for x in losses if x.table == "predictions"),
        }
        tick = self._tail.tick(datetime.now(UTC), detail)
        metrics.show_losses(self._exporter, losses)
        self._export(tick)
        self._report(tick)
        self._is_first = False
        return tick

    def _round(self) -> float | None:
        try:
            tick = self.tick()
        except Fenced:
            logger.warning("another monitor took over", extra={"model": self._config.name})
            self._when_replaced()
            return None
        except Exception as error:
            logger.exception("a tick failed, the next one reads the same rows again")
            self._exporter.add(telemetry.FOLD_ERRORS)
            self._complain(error)
            self._pause = min(2 * self._pause, MAX_PAUSE_SECONDS)
        else:
            self._pause = self._config.monitoring.poll_seconds
            self._log(tick)
        return self._pause

    def _complain(self, problem: Exception) -> None:
        try:
            self._tail.complain(datetime.now(UTC), f"{type(problem).__name__}: {problem}")
        except Exception:
            logger.exception("the ledger does not take the problem either")

    def _log(self, tick: Tick) -> None:
        for item in tick.evidence:
            facts = {"model": item.model, "version": item.version, "end": item.end.isoformat()}
            logger.info("evidence", extra={**facts, "seconds": round(tick.seconds, 3)})

    def _export(self, tick: Tick) -> None:
        exporter, model = self._exporter, self._config.name
        exporter.set(telemetry.FOLD_SECONDS, tick.seconds)
        exporter.set(telemetry.WATERMARK, tick.watermark.timestamp(), part="monitor")
        exporter.add(telemetry.FOLDS, 1.0 if tick.num_rows else 0.0)
        if tick.num_rows or self._is_first:
            metrics.show_counts(exporter, self._tail.state)
            metrics.show_loop(
                exporter, read_roles(self._ledger, model), read_decisions(self._ledger, model)
            )
        if self._tail.latest is not None:
            metrics.show_evidence(exporter, self._tail.latest)

    def _report(self, tick: Tick) -> None:
        """Have the standing alarm drawn once, take note of a report that is done. Never waits."""
        if self._reporter is None:
            return
        self._take_note(self._reporter)
        if tick.evidence or self._is_first:
            self._alarm = self._tail.alarm()
        if self._alarm is None or not self._is_wanted(self._alarm):
            return
        item = self._alarm.evidence
        window = Window(item.start, item.end)
        dataset = self._tail.dataset(item.version)
        if self._reporter.start(dataset, window, self._alarm.name):
            self._alarm = None

    def _is_wanted(self, alarm: Alarm) -> bool:
        """A report that a killed monitor left undone is drawn by the next one."""
        return not (self._config.reports_path / f"{alarm.name}.html").exists()

    def _take_note(self, reporter: Reporter) -> None:
        try:
            path = reporter.finished()
        except Exception:
            logger.exception("a report failed", extra={"model": self._config.name})
            self._exporter.add(telemetry.REPORTS, outcome="failed")
            return
        if path is not None:
            self._exporter.add(telemetry.REPORTS, outcome="written")

    def _reports(self) -> list[str]:
        """List the newest reports; their names begin with a date."""
        return sorted(map(str, self._config.reports_path.glob("*.html")))[-NUM_REPORTS_TOLD:]


class MonitorActor:
    """The monitor as a Ray actor: made again by Ray when its process dies, it resumes by itself."""

    def __init__(self, config: Config) -> None:
        import torch

        torch.set_num_threads(1)
        telemetry.log_json()
        # Ray makes the model's one actor again and it takes over; a forgotten twin stays away.
        self._monitor = Monitor(config, Reporter(config), when_replaced=lambda: os._exit(1))
        self._monitor.start()

    def metrics_url(self) -> str:
        """Say where the metrics are; also tells that the actor is up."""
        return self._monitor.metrics_url

    def process_id(self) -> int:
        """Name the process, for whoever measures or kills it."""
        return os.getpid()

    def stop(self) -> None:
        """End in good order."""
        self._monitor.stop()


def start_monitor(config: Config) -> Any:
    """Start the model's monitor as a detached, named actor, or find the one that runs.

    Returns its handle. Raises ValueError for a model that is not binary.
    """
    require_binary(config.contract, "monitoring")
    actor = ray.remote(num_cpus=0.05, max_restarts=-1, max_task_retries=0)(MonitorActor)
    return actor.options(
        name=ACTOR_NAME,
        namespace=namespace(config),
        lifetime="detached",
        get_if_exists=True,
    ).remote(config)


def await_monitor(handle: Any, seconds: float = 120.0) -> str:
    """Wait until a monitor answers; returns the address of its metrics."""
    return str(ray.get(handle.metrics_url.remote(), timeout=seconds))

"""The steward: the actor that ticks the loop of one model.

Knows Ray actors, threads and the machine's clock; knows nothing of what is decided. `StewardActor`
is a plain class; Ray is added in `start_steward`.
"""

import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray

from app.background import Rounds
from app.config import Config, show_config
from app.contracts.targets import require_binary
from app.data.tables import open_tables
from app.ledger.database import open_ledger
from app.ledger.epochs import Fenced
from app.loop.execution import Stopping
from app.loop.ports import RayPorts, job_environment
from app.loop.scoring import Store
from app.loop.stewardship import PART, Steward
from app.registry.artifacts import Artifacts
from app.session import namespace

logger = logging.getLogger(__name__)
MAX_PAUSE_SECONDS = 10.0


class StewardActor:
    """Keep a Steward ticking in a thread of a Ray actor."""

    def __init__(self, config: Config, dashboard_url: str) -> None:
        """Open the ledger, take the epoch and start ticking."""
        self._pause = config.loop.poll_seconds
        self._rounds = Rounds(PART, self._round, self._pause)
        ledger = open_ledger(config.ledger_url)
        tables = open_tables(config)
        ports = RayPorts(
            config=config,
            config_file=write_effective(config),
            ledger=ledger,
            store=Store(tables, config.contract, Artifacts(config.artifacts_path)),
            dashboard_url=dashboard_url,
            runtime_env=job_environment(),
            stopped=self._rounds.stopping,
        )
        self._steward = Steward(config, ledger, ports, tables)
        self._poll_seconds = config.loop.poll_seconds
        self._rounds.start()

    def process_id(self) -> int:
        """Name the process, for those who watch or test it."""
        return os.getpid()

    def alive(self) -> bool:
        """Tell whether the steward still ticks; False once a newer one has taken over."""
        return self._rounds.alive

    def stop(self) -> None:
        """Stop ticking; an act under way stays open and is resumed by the next steward."""
        self._rounds.stop(30)

    def _round(self) -> float | None:
        try:
            self._steward.tick(datetime.now(UTC))
            self._pause = self._poll_seconds
        except Stopping:
            return None
        except Fenced as error:
            logger.warning("the steward stops: %s", error)
            return None
        except Exception:
            # The border of the loop: nothing may end it but a newer steward.
            logger.exception("a tick of the loop failed; it is tried again")
            self._pause = min(max(2 * self._pause, 1.0), MAX_PAUSE_SECONDS)
        return self._pause


def write_effective(config: Config) -> Path:
    """Write the effective configuration for training jobs and return its path."""
    path = config.workspace / "effective.yaml"
    content = show_config(config)
    if not path.exists() or path.read_text() != content:
        aside = path.with_suffix(f".{time.monotonic_ns()}")
        aside.write_text(content)
        aside.replace(path)
    return path


def start_steward(config: Config, dashboard_url: str) -> bool:
    """Start the steward as a detached actor that restarts for ever, or find the one that runs.

    Returns whether it ticks. Raises ValueError for a model that is not binary.
    """
    require_binary(config.contract, "the loop")
    definition: Any = ray.remote(StewardActor).options(
        name=f"{PART}-{config.name}",
        namespace=namespace(config),
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,
        num_cpus=0.1,
    )
    actor = definition.remote(config, dashboard_url)
    return bool(ray.get(actor.alive.remote()))

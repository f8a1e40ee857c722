"""Keep one model's loop going: what is due, what is known, what is reported.

Knows the ledger, the tables and ports; knows nothing of Ray, threads or the machine's clock.
Started again after being killed at any instant, it takes a new epoch, finishes the act under way,
and goes on.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from app.config import Config
from app.contracts.records import Action, Decision, ModelVersion
from app.data.labels import known_labels
from app.data.tables import Tables
from app.ledger.clock import Clock, read_clock
from app.ledger.database import Ledger
from app.ledger.decisions import open_decision
from app.ledger.epochs import Fenced, check_epoch, steward_name, take_epoch
from app.ledger.evidence import read_evidence
from app.ledger.progress import Progress, read_progress, write_progress
from app.ledger.states import read_state
from app.loop.execution import Execution, Ports, Stopping
from app.loop.policy import Facts
from app.registry.store import find_version, read_roles

PART = "steward"
# With the pauses between tries, some minutes of a cluster that does not answer are borne.
MAX_TRIES = 20
# On a wall clock something is always due; this keeps the ledger quiet.
WALL_PERIOD = timedelta(seconds=5)


class Steward:
    """Tick one model's loop. `tick` is called by one thread only."""

    def __init__(self, config: Config, ledger: Ledger, ports: Ports, tables: Tables) -> None:
        """Take a new epoch: every older steward of this model is fenced from now on."""
        self._config = config
        self._ledger = ledger
        self._tables = tables
        self._epoch = take_epoch(ledger, steward_name(config.name))
        self._execution = Execution(ledger, config.name, config.loop, ports, self._epoch)
        self._tries: dict[str, int] = {}
        self._counted: tuple[int, datetime, int] | None = None

    def tick(self, wall_now: datetime) -> Action | None:
        """Act on everything up to the watermark, if that is not done yet; returns the last action.

        On a driven clock it waits for the monitor to reach the watermark, so that decisions depend
        on the data alone. Raises Fenced when a newer steward has taken over.
        """
        clock = read_clock(self._ledger, self._config, wall_now)
        if not self._is_due(clock):
            return None
        try:
            action = self._execution.advance(clock.watermark, self._facts, self._on_step)
        except (Fenced, Stopping):
            raise
        except Exception as error:
            self._count_failure(error)
            raise
        self._report(clock.watermark, clock.now, _observing(action))
        return action

    def _is_due(self, clock: Clock) -> bool:
        if open_decision(self._ledger, self._config.name) is not None:
            return True
        progress = read_progress(self._ledger, self._config.name)
        mine, monitor = progress.get(PART), progress.get("monitor")
        if self._config.clock == "wall":
            return mine is None or clock.watermark - mine.watermark >= WALL_PERIOD
        if mine is not None and mine.watermark >= clock.watermark and not mine.detail.get("busy"):
            return False
        if read_roles(self._ledger, self._config.name).champion is None:
            return True
        return monitor is not None and monitor.watermark >= clock.watermark

    def _facts(self, at: datetime) -> Facts:
        name = self._config.name
        roles = read_roles(self._ledger, name)
        if roles.champion is None:
            return Facts(evidence=(), roles=roles, num_labels=self._num_labels(at))
        trained = self._trained(find_version(self._ledger, roles.champion))
        evidence = read_evidence(self._ledger, name, until=at)
        return Facts(evidence=evidence, roles=roles, num_trained_on=trained.dataset.num_known)

    def _trained(self, version: ModelVersion) -> ModelVersion:
        """Find the version whose training made the network: a recalibration is not one."""
        while version.kind == "recalibrated" and version.parent is not None:
            version = find_version(self._ledger, version.parent)
        return version

    def _num_labels(self, at: datetime) -> int:
        """Count known outcomes; the table is read again only when it or the time has changed."""
        version = self._tables.version("labels")
        if self._counted is None or self._counted[:2] != (version, at):
            labels = (
                known_labels(self._tables.read("labels", version), at) if version >= 0 else None
            )
            count = labels.num_rows - labels["label"].null_count if labels is not None else 0
            self._counted = (version, at, count)
        return self._counted[2]

    def _on_step(self, decision: Decision) -> None:
        progress = read_progress(self._ledger, self._config.name).get(PART)
        # The watermark is reached only when everything up to it is done.
        watermark = progress.watermark if progress else datetime.min.replace(tzinfo=UTC)
        detail = {
            "busy": True,
            "doing": decision.action.kind,
            "key": decision.key,
            "why": list(decision.action.reasons),
            "says": f"{decision.action.kind}: {'; '.join(decision.action.reasons)}",
        }
        self._report(watermark, decision.at, detail)

    def _report(self, watermark: datetime, now: datetime, detail: dict[str, Any]) -> None:
        name = self._config.name
        detail = {**detail, "phase": read_state(self._ledger, name).phase, "epoch": self._epoch}
        with self._ledger.transaction() as connection:
            check_epoch(connection, steward_name(name), self._epoch)
            write_progress(connection, name, Progress(PART, watermark, detail, now))

    def _count_failure(self, error: Exception) -> None:
        """Give an act up that failed several times for a reason outside itself."""
        decision = open_decision(self._ledger, self._config.name)
        if decision is None:
            return
        self._tries[decision.key] = self._tries.get(decision.key, 0) + 1
        if self._tries[decision.key] >= MAX_TRIES:
            reason = f"given up after {MAX_TRIES} tries: {type(error).__name__}: {error}"
            self._execution.abandon(decision, reason)


def _observing(action: Action) -> dict[str, Any]:
    return {
        "busy": False,
        "doing": "observe",
        "cause": action.cause,
        "why": list(action.reasons),
        "says": f"observing: {'; '.join(action.reasons)}",
    }

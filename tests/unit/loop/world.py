"""A scripted outside world for the loop, and a way to kill the loop at any instant.

The ledger, the policy, the execution and the steward are the real ones; what is scripted is what
lies outside them: training jobs, comparisons, replicas.
"""

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, event

from app.config import Config, load_config
from app.contracts.records import (
    ColumnDrift,
    DatasetVersion,
    Decision,
    Evaluation,
    Evidence,
    GateReport,
    Metric,
    ModelVersion,
    WatchReport,
)
from app.data.tables import open_tables
from app.ledger.clock import drive_clock
from app.ledger.database import Ledger, open_ledger
from app.ledger.decisions import read_decisions
from app.ledger.evidence import record_fold
from app.ledger.progress import read_progress
from app.ledger.states import read_state
from app.loop.execution import StepFailed
from app.loop.stewardship import Steward
from app.registry.store import read_roles, register_version, version_of_run

START = datetime(2013, 4, 1, 6, tzinfo=UTC)
SETTINGS = ("loop.governor.cooldown_days=14", "loop.watch.days=14")
CONFIG = Path(__file__).parents[3] / "configs" / "flights.yaml"


class Killed(BaseException):
    """The process is gone; nothing in the product may catch this."""


@dataclass
class Instants:
    """Counts the instants at which a process may die, and dies at the chosen ones."""

    kill_at: frozenset[int] = frozenset()
    count: int = 0
    num_kills: int = 0

    def reach(self) -> None:
        self.count += 1
        if self.count in self.kill_at:
            self.num_kills += 1
            raise Killed(self.count)


class MortalLedger(Ledger):
    """The real ledger, whose process may die before, inside and after every transaction."""

    def __init__(self, ledger: Ledger, instants: Instants) -> None:
        super().__init__(ledger._engine)
        self._instants = instants

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        self._instants.reach()
        with super().transaction() as connection:
            yield connection
            self._instants.reach()
        self._instants.reach()


@functools.cache
def config_at(folder: Path, *overrides: str) -> Config:
    # The scripted world's figures fit these limits, whatever the shipped model chooses.
    governor = "loop.governor={cooldown_days: 28, min_new_labels: 20000, min_benefit: 0.25}"
    return load_config(CONFIG, [f"workspace={folder}", governor, *overrides])


def metric(value: float, width: float = 0.005) -> Metric:
    return Metric(value=value, low=value - width, high=value + width)


def evaluation(
    auc: float = 0.70, positive: float = 0.23, mean: float = 0.23, error: float = 0.01
) -> Evaluation:
    return Evaluation(
        num_rows=20000,
        positive_share=positive,
        mean_probability=mean,
        roc_auc=metric(auc),
        pr_auc=metric(0.42),
        brier=metric(0.165, 0.002),
        log_loss=0.5,
        calibration_error=error,
    )


def drift(column: str = "temperature", psi: float = 0.1, **changes: float) -> ColumnDrift:
    shares = {"null_share": 0.0, "reference_null_share": 0.0, "unseen_share": 0.0, **changes}
    return ColumnDrift(column=column, psi=psi, **shares)


def evidence(version: str = "v", day: float = 7, **changes: object) -> Evidence:
    end = START + timedelta(days=day)
    fields: dict[str, object] = {
        "model": "flights",
        "version": version,
        "start": end - timedelta(days=28),
        "end": end,
        "known_at": end,
        "num_predictions": 25000,
        "num_known": 24000,
        "num_void": 500,
        "coverage": 0.98,
        "performance": evaluation(),
        "reference": evaluation(),
        "columns": (drift(), drift("pressure")),
        "num_new_labels": 25000,
    }
    return Evidence.model_validate(fields | changes)


def version(run: str, until: datetime = START, **changes: object) -> ModelVersion:
    fields: dict[str, object] = {
        "digest": hashlib.sha256(run.encode()).hexdigest(),
        "model": "flights",
        "run": run,
        "kind": "trained",
        "created_at": until,
        "dataset": DatasetVersion(
            start=until - timedelta(days=90),
            end=until,
            known_at=until,
            events_version=0,
            labels_version=0,
            digest="0" * 32,
            num_rows=81000,
            num_known=80000,
            num_void=1000,
        ),
        "trained_until": until,
        "held_out_days": (),
        "config_digest": "c",
        "code_version": "1",
        "seed": 7,
        "evaluation": evaluation(),
    }
    return ModelVersion.model_validate(fields | changes)


def gate_report(passed: bool = True) -> GateReport:
    return GateReport(
        passed=passed,
        reasons=("AUC gain +0.02",) if passed else ("AUC gain -0.01 is under 0",),
        num_rows=9000,
        num_days=10,
        champion=evaluation(),
        candidate=evaluation(0.72),
        auc_gain=metric(0.02 if passed else -0.01),
    )


@dataclass
class World:
    """Training jobs, comparisons and replicas, by script. What it was asked to do is counted."""

    ledger: Ledger
    instants: Instants = field(default_factory=Instants)
    failing: dict[int, str] = field(default_factory=dict)
    """Reasons of trainings that fail, by the order in which they are started."""
    refused: frozenset[str] = frozenset()
    """Runs whose versions the gate refuses."""
    harmful: frozenset[str] = frozenset()
    """Runs whose versions the watch finds harmful."""
    unloadable: frozenset[str] = frozenset()
    jobs: list[str] = field(default_factory=list)
    """Runs that were started, in order: the cluster's own list of jobs."""
    alerts: list[str] = field(default_factory=list)

    def train(self, decision: Decision) -> ModelVersion:
        run = decision.key
        self.instants.reach()
        if run not in self.jobs:
            self.jobs.append(run)
            self.instants.reach()
        if self.jobs.index(run) in self.failing:
            raise StepFailed(self.failing[self.jobs.index(run)])
        made = version_of_run(self.ledger, "flights", run)
        if made is None:
            made = register_version(self.ledger, version(run, decision.at))
        self.instants.reach()
        return made

    def recalibrate(self, decision: Decision, champion: str) -> ModelVersion:
        self.instants.reach()
        made = version(decision.key, decision.at, kind="recalibrated", parent=champion)
        return register_version(self.ledger, made)

    def judge(self, decision: Decision, candidate: str, champion: str | None) -> GateReport:
        self.instants.reach()
        return gate_report(candidate not in {version(run).digest for run in self.refused})

    def compare_live(
        self, decision: Decision, champion: str, previous: str, since: datetime, final: bool
    ) -> WatchReport:
        self.instants.reach()
        harmful = champion in {version(run).digest for run in self.harmful}
        verdict = "harm" if harmful else "keep" if final else "wait"
        return WatchReport(
            verdict=verdict, reasons=(f"it says {verdict}",), num_rows=9000, num_days=7
        )

    def await_resident(self, decision: Decision, version: str, generation: int) -> Sequence[str]:
        self.instants.reach()
        broken = {globals()["version"](run).digest for run in self.unloadable}
        return ["replica r1 cannot load it: altered"] if version in broken else []

    def await_switch(self, decision: Decision, generation: int) -> Sequence[str]:
        self.instants.reach()
        return []

    def alert(self, decision: Decision) -> None:
        self.instants.reach()
        if decision.key not in self.alerts:
            self.alerts.append(decision.key)


def fresh_ledger(folder: Path) -> Ledger:
    """Open a ledger that does not wait for the disk: here processes die, machines do not."""
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    ledger.close()
    event.listen(ledger._engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF"))
    return ledger


class Operation:
    """A steward over a scripted world, led week by week."""

    def __init__(self, folder, **script):
        self.config = config_at(folder, *SETTINGS)
        self.world = World(fresh_ledger(folder), **script)
        self.ledger = self.world.ledger
        tables = open_tables(self.config)
        self.steward = Steward(self.config, self.ledger, self.world, tables)
        self.steward._num_labels = lambda at: 80000
        self.day = -7

    def week(self, **changes: object) -> list[str]:
        """Let a week pass, with evidence about the champion; returns what was done."""
        self.day += 7
        now = START + timedelta(days=self.day)
        champion = read_roles(self.ledger, "flights").champion
        found = [evidence(champion, self.day, **changes)] if champion else []
        drive_clock(self.ledger, self.config, now=now, watermark=now)
        record_fold(self.ledger, "flights", found, {}, b"", now, {})
        before = len(self.decisions)
        self.steward.tick(now)
        return [decision.action.kind for decision in self.decisions[before:]]

    @property
    def decisions(self) -> list[Decision]:
        return read_decisions(self.ledger, "flights")

    @property
    def state(self):
        return read_state(self.ledger, "flights")

    def says(self) -> str:
        return read_progress(self.ledger, "flights")["steward"].detail["says"]


DRIFTED = {"performance": evaluation(0.65)}

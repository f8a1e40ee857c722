"""Logs of a small model: rows, predictions and labels of some weeks, clean or full of trouble."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pyarrow as pa

from app.contracts.records import Evaluation, Evidence
from app.contracts.rows import TIMESTAMP, Contract
from app.data.features import Encoder, Statistics
from app.data.profile import Profile
from app.model.evaluation import evaluate
from app.monitoring.evidence import Reference, champion, due_windows, evidence, judged
from app.monitoring.fold import Batch, fold, profiled
from app.monitoring.state import FoldState
from app.sections import FeaturesConfig, MonitoringConfig

# Windows of two days then end at day 1, 3, 5 …: they are counted from 1970.
FIRST = datetime(2013, 4, 2, tzinfo=UTC)
CONTRACT = Contract.model_validate(
    {
        "id": "ride",
        "event_time": "start",
        "label": "late",
        "columns": [
            {"name": "ride", "kind": "identifier", "feature": False},
            {"name": "start", "kind": "time", "feature": False},
            {"name": "distance", "kind": "number", "nullable": True},
            {"name": "city", "kind": "category", "nullable": True},
        ],
    }
)
CONFIG = MonitoringConfig(
    window_days=7, every_days=2, maturity_days=1, min_labels=20, num_bootstraps=20, grace_minutes=0
)


def day(number: float) -> datetime:
    return FIRST + timedelta(days=number)


@dataclass(frozen=True)
class Logs:
    """What the logs of some days hold, in the order in which it was appended."""

    events: pa.Table
    predictions: pa.Table
    labels: pa.Table
    quarantine: pa.Table

    def batch(self) -> Batch:
        return Batch(self.events, self.predictions, self.labels, self.quarantine)


NO_QUARANTINE = pa.table(
    {"source": pa.array([], pa.string()), "ingested_at": pa.array([], TIMESTAMP)}
)


def make_day(
    number: int, num_rows: int = 40, seed: int = 0, shift: float = 0.0, version: str = "v1"
) -> Logs:
    """Rows of one day; their labels become known at 10:00 of the next day."""
    draw = np.random.default_rng([seed, number + 1000])
    ids = [f"r{number:03d}-{i:03d}" for i in range(num_rows)]
    times = [day(number) + timedelta(minutes=1440 * i / num_rows) for i in range(num_rows)]
    chance = draw.random(num_rows)
    outcome = (draw.random(num_rows) < chance).astype(np.int8)
    void = draw.random(num_rows) < 0.1
    events = pa.table(
        {
            "ride": ids,
            "start": pa.array(times, TIMESTAMP),
            "distance": pa.array(draw.normal(5 + shift, 2, num_rows)),
            "city": pa.array(draw.choice(["aa", "bb", "cc"], num_rows).tolist()),
            "prediction_time": pa.array(times, TIMESTAMP),
            "source": ["serving"] * num_rows,
            "ingested_at": pa.array(times, TIMESTAMP),
        }
    )
    events = _never_null(events, "ride", "start", "prediction_time", "source", "ingested_at")
    predictions = pa.table(
        {
            "idempotency_key": ids,
            "row_id": ids,
            "version": [version] * num_rows,
            "generation": pa.array([int(version[1:])] * num_rows, pa.int64()),
            "arm": ["champion"] * num_rows,
            "probability": chance,
            "prediction_time": pa.array(times, TIMESTAMP),
            "served_at": pa.array(times, TIMESTAMP),
        }
    )
    labels = pa.table(
        {
            "row_id": ids,
            "label": pa.array(outcome, pa.int8(), mask=void),
            "void": pa.array(void),
            "known_at": pa.array([day(number + 1) + timedelta(hours=10)] * num_rows, TIMESTAMP),
            "received_at": pa.array([day(number + 1) + timedelta(hours=11)] * num_rows, TIMESTAMP),
        }
    )
    return Logs(events, predictions, labels, NO_QUARANTINE)


def _never_null(table: pa.Table, *names: str) -> pa.Table:
    """Give a table the fields of a Delta table, which says what may not be null."""
    fields = [field.with_nullable(field.name not in names) for field in table.schema]
    return table.cast(pa.schema(fields))


def label(row_id: str, value: int | None, known: float, received: float | None = None) -> pa.Table:
    """One label report; no value means void."""
    return pa.table(
        {
            "row_id": [row_id],
            "label": pa.array([value], pa.int8()),
            "void": [value is None],
            "known_at": pa.array([day(known)], TIMESTAMP),
            "received_at": pa.array([day(known if received is None else received)], TIMESTAMP),
        }
    )


def training_rows(num_rows: int = 2000) -> pa.Table:
    return pa.concat_tables([make_day(-number, 100).events for number in range(1, num_rows // 100)])


@cache
def reference(version: str = "v1", trained_until: datetime = FIRST) -> Reference:
    rows = training_rows()
    encoder = Encoder.fit(
        Statistics.collect(rows, CONTRACT), FeaturesConfig(num_bins=8, min_category_count=1)
    )
    scores = np.linspace(0, 1, 500)
    profile = Profile.for_encoder(encoder, scores).add(rows, scores)
    return Reference(version, profile, figures(), trained_until)


def figures() -> Evaluation:
    draw = np.random.default_rng(1)
    chance = draw.random(500)
    return evaluate((draw.random(500) < chance).astype(int), chance, num_bootstraps=20)


class Run:
    """A monitor without disk or ledger: folds batches and judges at watermarks."""

    def __init__(self, config: MonitoringConfig = CONFIG) -> None:
        self.state = FoldState.empty(CONTRACT)
        self.config = config
        self.evidence: list[Evidence] = []
        self._events = make_day(0).events.slice(0, 0)

    def fold(self, logs: Logs) -> "Run":
        self.state = fold(self.state, logs.batch(), CONTRACT)
        self._events = pa.concat_tables([self._events, logs.events])
        return self

    def judge(self, watermark: datetime) -> "Run":
        for window in due_windows(self.state, watermark, self.config):
            version = champion(self.state, window)
            assert version is not None
            standard = reference(version)
            if version not in self.state.profiles:
                self.state = profiled(self.state, version, standard.profile, self._events, CONTRACT)
            found = evidence(self.state, window, "rides", standard, self.config)
            self.evidence.append(found)
            self.state = judged(self.state, window, self.config)
        return self

    @property
    def written(self) -> list[str]:
        return [item.model_dump_json() for item in self.evidence]


def joined(*logs: Logs) -> Logs:
    names = ("events", "predictions", "labels", "quarantine")
    return Logs(*(pa.concat_tables([getattr(each, name) for each in logs]) for name in names))


def without_labels(logs: Logs) -> Logs:
    return replace(logs, labels=logs.labels.slice(0, 0))

"""Answer a person's question: how good were these predictions, as it was known at a time?

Knows the tables of predictions and labels, and settings; knows nothing of Ray, jobs or the clock.
The answer is a function of the tables and the question: asked again later it is the same, whatever
has come since.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AwareDatetime, Field

from app.contracts.maturity import Estimate, Maturity
from app.contracts.records import Evaluation
from app.contracts.rows import TIMESTAMP, Frozen
from app.contracts.shares import CHAMPION_ARMS
from app.contracts.times import micros_in, micros_of
from app.data.tables import Tables
from app.monitoring.distinct import first, num_distinct, whole
from app.monitoring.drift import share
from app.monitoring.maturity import learn, learning_days
from app.monitoring.outcomes import Outcomes, outcomes_of
from app.monitoring.performance import realised
from app.sections import MonitoringConfig

COLUMNS = (
    "idempotency_key", "row_id", "version", "arm", "probability", "prediction_time", "served_at"
)  # fmt: skip
REPORT = ("row_id", "label", "void")


@dataclass(frozen=True)
class Question:
    """Predictions with start <= prediction time < end, as known at a time.

    A version asks for what it answered in any part; without one the champions of the time are
    meant. `by_arrival` counts what had reached us; else everything that the world knew by then.
    """

    start: datetime
    end: datetime
    at: datetime
    version: str | None = None
    by_arrival: bool = True

    @property
    def received_by(self) -> datetime | None:
        """Until when reports may have arrived; None for any time."""
        return self.at if self.by_arrival else None

    def __post_init__(self) -> None:
        """Refuse a question that has no answer."""
        if self.start >= self.end:
            raise ValueError(
                f"start {self.start.isoformat()} is not before end {self.end.isoformat()}; "
                "ask for an earlier start"
            )
        if self.end > self.at:
            raise ValueError(
                f"end {self.end.isoformat()} is after {self.at.isoformat()}, when this was known; "
                "ask for an earlier end"
            )


class PerformanceAsKnown(Frozen):
    """What predictions were worth, as known at a time. Counts are of distinct predictions."""

    model: str
    start: AwareDatetime
    end: AwareDatetime
    known_at: AwareDatetime
    version: str | None = Field(description="Absent: whoever answered as champion.")
    knowledge: Literal["ours", "world"] = Field(
        description="ours: what had reached us by then; world: all that was known by then."
    )
    num_predictions: int = Field(ge=0)
    num_known: int = Field(ge=0)
    num_void: int = Field(ge=0)
    num_pending: int = Field(ge=0)
    num_revised: int = Field(
        ge=0, description="Reports by then that contradicted another one of their row."
    )
    coverage: float = Field(description="Share of predictions whose outcome is known or void.")
    expected_coverage: Estimate = Field(
        description="Share that predictions of these ages should have, by the learned delays."
    )
    is_mature: bool = Field(description="It should have the target's share, with confidence.")
    maturity: Maturity
    num_to_come: float = Field(
        ge=0, description="Outcomes still to come, as far as delays were seen."
    )
    num_to_come_in_a_day: float = Field(ge=0, description="Those of them within a day.")
    performance: Evaluation | None = Field(
        description="On all known outcomes; absent when they are too few or of one kind."
    )
    reasons: tuple[str, ...]


def read_logs(
    tables: Tables, question: Question, config: MonitoringConfig
) -> tuple[pa.Table, pa.Table]:
    """Read the predictions and labels that an answer needs: the window's, and recent delays.

    Raises ValueError when nothing was predicted yet.
    """
    if tables.version("predictions") < 0:
        raise ValueError(
            f"{tables.root}: no predictions yet; serve the model with jobs.deploy and ask it"
        )
    since = min(question.start, question.at - timedelta(learning_days(config)))
    time = pc.field("prediction_time")
    inside = (time >= pa.scalar(since, TIMESTAMP)) & (time < pa.scalar(question.at, TIMESTAMP))
    predictions = tables.read("predictions", columns=COLUMNS, filters=inside)
    return predictions, tables.read("labels")


def performance_as_known(
    question: Question,
    predictions: pa.Table,
    labels: pa.Table,
    model: str,
    config: MonitoringConfig,
) -> PerformanceAsKnown:
    """Evaluate the predictions of a window against what was known of their outcomes at a time.

    Args:
        question: which predictions, as known when.
        predictions: rows of the predictions table; see read_logs. Repeats may be among them: the
            first served of a key and a prediction time stands, as for the monitor.
        labels: rows of the labels table.
        model: name of the model, for the record.
        config: how many labels are enough, how maturity is told.
    """
    made = _made_by(predictions, question.at)
    asked = _asked_for(made, question)
    learned = learn(made, labels, question.at, config, by_arrival=question.by_arrival)
    outcomes = outcomes_of(asked, labels, question.at, question.received_by)
    now = micros_of(question.at)
    expected = learned.curve.expected(now - micros_in(asked["prediction_time"]).to_numpy())
    pending = now - outcomes.pending_since
    performance = realised(outcomes.labels, outcomes.probabilities, config)
    return PerformanceAsKnown(
        model=model,
        start=question.start,
        end=question.end,
        known_at=question.at,
        version=question.version,
        knowledge="ours" if question.by_arrival else "world",
        num_predictions=asked.num_rows,
        num_known=outcomes.num_known,
        num_void=outcomes.num_void,
        num_pending=outcomes.num_pending,
        num_revised=_num_revised(asked, labels, question),
        coverage=share(outcomes.num_closed, asked.num_rows),
        expected_coverage=expected,
        is_mature=expected.low is not None and expected.low >= config.maturity_coverage,
        maturity=learned.maturity,
        num_to_come=learned.curve.still_to_come(pending),
        num_to_come_in_a_day=learned.curve.still_to_come(pending, timedelta(days=1)),
        performance=performance,
        reasons=(
            _why_mature(expected, config),
            *([_why_no_figures(outcomes, config)] if performance is None else []),
        ),
    )


def _made_by(predictions: pa.Table, at: datetime) -> pa.Table:
    """Keep each prediction that was made by then once: the one served first."""
    named = predictions.rename_columns({"idempotency_key": "key"})
    made = named.filter(pc.less_equal(micros_in(named["served_at"]), micros_of(at)))
    # Of two that were served at the same instant any would do, but always the same one.
    order = [(name, "ascending") for name in ("served_at", "version", "probability")]
    return first(made.sort_by(order), ["key", "prediction_time"])


def _asked_for(made: pa.Table, question: Question) -> pa.Table:
    times = micros_in(made["prediction_time"])
    inside = pc.and_(
        pc.greater_equal(times, micros_of(question.start)),
        pc.less(times, micros_of(question.end)),
    )
    if question.version is None:
        champions = pa.array(CHAMPION_ARMS, made["arm"].type)
        return made.filter(pc.and_(inside, pc.is_in(made["arm"], champions)))
    return made.filter(pc.and_(inside, pc.equal(made["version"], question.version)))


def _num_revised(asked: pa.Table, labels: pa.Table, question: Question) -> int:
    """Count reports that contradicted another one of the same row by then."""
    came = pc.less_equal(micros_in(labels["known_at"]), micros_of(question.at))
    if question.received_by is not None:
        arrived = pc.less_equal(micros_in(labels["received_at"]), micros_of(question.received_by))
        came = pc.and_(came, arrived)
    mine = pc.is_in(labels["row_id"], whole(asked["row_id"]))
    reports = first(labels.filter(pc.and_(came, mine)), REPORT)
    num_reports: int = reports.num_rows
    return num_reports - num_distinct(reports, ["row_id"])


def _why_mature(expected: Estimate, config: MonitoringConfig) -> str:
    target = f"{config.maturity_coverage:.0%}"
    if expected.value is None or expected.low is None:
        return "nothing was predicted in this window"
    found = f"{expected.value:.1%} of outcomes should have come, at least {expected.low:.1%}"
    if expected.low >= config.maturity_coverage:
        return f"mature: {found}, {target} are asked for"
    return f"not mature: {found}, {target} are asked for; later figures may differ"


def _why_no_figures(outcomes: Outcomes, config: MonitoringConfig) -> str:
    if outcomes.num_known < config.min_labels:
        return (
            f"no figures: {outcomes.num_known:,} outcomes are known, monitoring.min_labels asks "
            f"for {config.min_labels:,}"
        )
    return f"no figures: all {outcomes.num_known:,} known outcomes are of one kind"

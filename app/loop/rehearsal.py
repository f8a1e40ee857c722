"""Compare retraining policies on the same production rows: months, scores, the scoreboard.

Knows months, labels and probabilities; knows nothing of Ray, HTTP, storage, or how a model is made.
Months are those of prediction time in UTC. In the first month every policy is the first champion.
"""

import calendar
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Literal, Protocol, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import AwareDatetime

from app.contracts.rows import TIMESTAMP, Frozen
from app.model.evaluation import Ranking, brier

Policy = Literal["static", "last3", "all", "loop"]
MONTHS = re.compile(r"(\d{1,2})(?:-(\d{1,2}))?")
POLICIES: tuple[Policy, ...] = get_args(Policy)
ScoreName = Literal["roc_auc", "pr_auc", "brier", "positive_share"]


class MonthScore(Frozen):
    """One policy's figures over one month. With one kind of outcome only there is no ranking."""

    month: str
    num_rows: int
    positive_share: float
    mean_probability: float
    roc_auc: float | None
    pr_auc: float | None
    brier: float


class PolicyScores(Frozen):
    """One policy, month by month."""

    policy: Policy
    months: tuple[MonthScore, ...]

    def values(self, score: ScoreName) -> tuple[float | None, ...]:
        """List one figure by month."""
        return tuple(getattr(month, score) for month in self.months)

    def mean(self, score: ScoreName) -> float | None:
        """Average a figure over the months that have it, every month counting the same."""
        known = [value for value in self.values(score) if value is not None]
        return sum(known) / len(known) if known else None


class Scoreboard(Frozen):
    """Policies compared on the same rows: known outcome, and an answer from every policy."""

    model: str
    label: str
    start: date
    until: date
    num_rows: int
    num_left_out: int = 0
    policies: tuple[PolicyScores, ...]

    @property
    def months(self) -> tuple[str, ...]:
        """The months compared, as 2013-04."""
        return tuple(score.month for score in self.policies[0].months) if self.policies else ()

    def of(self, policy: Policy) -> PolicyScores | None:
        """Find one policy."""
        return next((scores for scores in self.policies if scores.policy == policy), None)

    def table(self, score: ScoreName) -> dict[str, list[float | None]]:
        """List one figure by policy and month, as a job's record shows it."""
        return {scores.policy: list(scores.values(score)) for scores in self.policies}


class Period(Frozen):
    """A stretch of production within one month."""

    month: str
    start: AwareDatetime
    end: AwareDatetime


class Scorer(Protocol):
    """What the comparison needs of a `ModelBundle`."""

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        """Give one probability a row."""


def chosen_policies(names: str) -> tuple[Policy, ...]:
    """Read a list of comparators such as `static,last3,all`, in the order of the scoreboard.

    >>> chosen_policies("all, static")
    ('static', 'all')
    """
    wanted = {name.strip() for name in names.split(",")}
    comparators = [policy for policy in POLICIES if policy != "loop"]
    if not wanted or not wanted <= set(comparators):
        raise ValueError(f"policies: expected some of {', '.join(comparators)}, got {names!r}")
    return tuple(policy for policy in comparators if policy in wanted)


def split_months(start: datetime, until: datetime) -> list[Period]:
    """Split production at the first of every month, at the hour of the day with which it starts.

    >>> from datetime import UTC
    >>> start, until = datetime(2013, 4, 1, 5, tzinfo=UTC), datetime(2013, 6, 1, 5, tzinfo=UTC)
    >>> [period.month for period in split_months(start, until)]
    ['2013-04', '2013-05']
    """
    if start >= until:
        raise ValueError(
            f"replay: starts at {start:%Y-%m-%d} and ends at {until:%Y-%m-%d}; move one of them"
        )
    edges = [start]
    while (edge := shift_months(edges[-1].replace(day=1), 1)) < until:
        edges.append(edge)
    spans = zip(edges, [*edges[1:], until], strict=True)
    return [Period(month=f"{first:%Y-%m}", start=first, end=last) for first, last in spans]


def choose_months(periods: Sequence[Period], months: str) -> list[Period]:
    """Keep the months of the calendar that `4-12` or `5` names."""
    found = MONTHS.fullmatch(months.strip())
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    chosen = [period for period in periods if first <= period.start.month <= last]
    if not chosen:
        replayed = f"{periods[0].month} to {periods[-1].month}"
        raise ValueError(f"months {months}: expected months such as 4-12 within {replayed}")
    return chosen


def shift_months(at: datetime, months: int) -> datetime:
    """Move the first of a month, or the nearest day that exists, by whole months.

    >>> from datetime import UTC
    >>> shift_months(datetime(2013, 2, 1, 5, tzinfo=UTC), -3).isoformat()
    '2012-11-01T05:00:00+00:00'
    """
    year, month = divmod(at.year * 12 + at.month - 1 + months, 12)
    day = min(at.day, calendar.monthrange(year, month + 1)[1])
    return at.replace(year=year, month=month + 1, day=day)


def score_rows(
    rows: pa.Table,
    row_id: str,
    periods: Sequence[Period],
    policies: Sequence[Policy],
    model_of: Callable[[Policy, Period], Scorer],
) -> pa.Table:
    """Score every row with a known outcome by each policy's model of its month.

    `rows` is a loaded snapshot of production. The result has row_id, month, label and a column a
    policy.
    """
    parts = []
    for period in periods:
        asked = rows["prediction_time"]
        within = pc.and_(
            pc.greater_equal(asked, _moment(period.start)), pc.less(asked, _moment(period.end))
        )
        part = rows.filter(pc.and_(within, pc.equal(rows["state"], "known")))
        columns: dict[str, object] = {
            "row_id": part[row_id],
            "month": pa.array([period.month] * part.num_rows, pa.string()),
            "label": part["label"],
        }
        for policy in policies:
            scored = model_of(policy, period).predict(part) if part.num_rows else np.empty(0)
            columns[policy] = pa.array(scored, pa.float64())
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def with_served(scores: pa.Table, probability: Mapping[str, float]) -> pa.Table:
    """Add the loop's column: what the endpoint answered, null where it gave no answer."""
    served = [probability.get(row) for row in scores["row_id"].to_pylist()]
    return scores.append_column("loop", pa.array(served, pa.float64()))


def compare(
    model: str, label: str, scores: pa.Table, span: tuple[date, date], num_known: int | None = None
) -> Scoreboard:
    """Make the scoreboard over the rows that every policy answered.

    `num_known` is the number of production rows with an outcome, where it is known to be more than
    `scores` holds; those that are not compared are counted, not forgotten. Raises ValueError
    without a row to compare.
    """
    policies = [policy for policy in POLICIES if policy in scores.column_names]
    answered = scores.filter(_all_valid([scores[policy] for policy in policies]))
    if not answered.num_rows:
        raise ValueError(
            f"{model}: no production row has both a known outcome and an answer of "
            f"{', '.join(policies)}; replay longer, or compare fewer policies"
        )
    outcome = answered["label"].to_numpy()
    return Scoreboard(
        model=model,
        label=label,
        start=span[0],
        until=span[1],
        num_rows=answered.num_rows,
        num_left_out=max(num_known or 0, scores.num_rows) - answered.num_rows,
        policies=tuple(
            PolicyScores(
                policy=policy,
                months=tuple(
                    monthly_scores(answered["month"], outcome, answered[policy].to_numpy())
                ),
            )
            for policy in policies
        ),
    )


def _all_valid(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    valid = columns[0].is_valid()
    for column in columns[1:]:
        valid = pc.and_(valid, column.is_valid())
    return valid


def _moment(at: datetime) -> pa.Scalar:
    return pa.scalar(at, TIMESTAMP)


def monthly_scores(
    month: Sequence[str] | pa.ChunkedArray,
    label: NDArray[np.generic],
    probability: NDArray[np.float64],
) -> list[MonthScore]:
    """Score probabilities against outcomes, month by month, in the order of months.

    >>> label, probability = np.array([0, 1, 0, 1]), np.array([0.1, 0.9, 0.2, 0.8])
    >>> scores = monthly_scores(["2013-04"] * 4, label, probability)
    >>> scores[0].roc_auc, round(scores[0].brier, 3)
    (1.0, 0.025)
    """
    months = np.array([str(name) for name in month])
    outcome = np.asarray(label, dtype=np.float64)
    predicted = np.asarray(probability, dtype=np.float64)
    if not len(months) == len(outcome) == len(predicted):
        raise ValueError(
            f"monthly_scores: {len(months)} months, {len(outcome)} labels and {len(predicted)} "
            "probabilities; give one of each a row"
        )
    if not (np.isfinite(predicted).all() and np.isin(outcome, (0.0, 1.0)).all()):
        raise ValueError("monthly_scores: labels must be 0 or 1 and probabilities finite")
    return [
        _score(name, outcome[months == name], predicted[months == name])
        for name in np.unique(months).tolist()
    ]


def _score(month: str, outcome: NDArray[np.float64], predicted: NDArray[np.float64]) -> MonthScore:
    """Score one month's rows."""
    has_both = 0.0 < outcome.mean() < 1.0
    areas = Ranking(outcome, predicted).areas() if has_both else (None, None)
    return MonthScore(
        month=month,
        num_rows=len(outcome),
        positive_share=float(outcome.mean()),
        mean_probability=float(predicted.mean()),
        roc_auc=areas[0],
        pr_auc=areas[1],
        brier=brier(outcome, predicted),
    )

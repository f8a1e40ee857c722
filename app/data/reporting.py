"""Make the report on one ingest from tallies: what came, what was refused and why, how it looks.

Knows tallies, the contract and the policy; knows nothing of HTML, Ray, tables or files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

import pyarrow as pa

from app.config import Config
from app.contracts.rows import TIMESTAMP, Column, Contract
from app.contracts.times import moment
from app.data.figures import Numbers, Times, Values
from app.data.freshness import age_of
from app.data.halting import IngestFacts, judge
from app.data.report import (
    ColumnReport,
    Counts,
    DeliveryReport,
    ExampleReport,
    ForbiddenReport,
    FreshnessReport,
    IngestReport,
    ReasonReport,
    RuleReport,
    TopValue,
    VolumeReport,
)
from app.data.tally import Met, Problem, Tally
from app.sections import IntakeConfig

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
NUM_BINS = 24
NUM_TOP = 8
OUTSIDE_SET = "must be one of "


@dataclass(frozen=True)
class Arrived:
    """One kind of what an ingest took up: rows, or outcomes.

    `num_in` is counted where rows are read, apart from the tally of what became of them. `pending`
    are the deliveries taken up, those without a row too; `files` and `left_out` say more of them.
    """

    tally: Tally
    num_in: Mapping[str, int]
    pending: Sequence[str]
    files: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def make_report(
    config: Config,
    rows: Arrived,
    outcomes: Arrived,
    at: datetime,
    *,
    until: datetime | None = None,
    newest_before: int | None = None,
    earlier: Sequence[int] = (),
) -> IngestReport:
    """Put a report together, with its verdict.

    `newest_before` is the newest time asked of rows that are in already, in microseconds;
    `earlier` are the rows of earlier ingests.
    """
    contract, policy = config.contract, config.intake
    deliveries = _deliveries(rows)
    volume = _volume(sum(rows.num_in.values()), earlier, policy)
    freshness = _freshness(rows.tally.newest, newest_before, at, policy)
    facts = IngestFacts(
        num_in=volume.num_rows,
        num_quarantined=rows.tally.num_quarantined,
        rows={_named(item): item.num_in for item in deliveries},
        newest=freshness.newest,
        age_hours=freshness.age_hours,
        median=volume.median,
    )
    return IngestReport(
        model=config.name,
        at=at,
        until=until,
        contract=config.digest_of("contract"),
        verdict=judge(facts, policy),
        rows=_counts(rows),
        outcomes=_counts(outcomes),
        deliveries=deliveries,
        outcome_deliveries=_deliveries(outcomes),
        reasons=_reasons(rows.tally, policy),
        outcome_reasons=_reasons(outcomes.tally, policy),
        rules=_rules(rows.tally, contract),
        forbidden=_forbidden(deliveries, contract),
        columns=_columns(rows.tally, contract),
        freshness=freshness,
        volume=volume,
    )


def _counts(arrived: Arrived) -> Counts:
    tally = arrived.tally
    return Counts(
        num_in=sum(arrived.num_in.values()),
        num_accepted=tally.num_accepted,
        num_quarantined=tally.num_quarantined,
    )


def _deliveries(arrived: Arrived) -> tuple[DeliveryReport, ...]:
    tally = arrived.tally
    named = dict.fromkeys([*arrived.pending, *arrived.num_in, *tally.accepted, *tally.quarantined])
    return tuple(
        DeliveryReport(
            delivery=delivery,
            file=arrived.files.get(delivery),
            left_out=arrived.left_out.get(delivery, ()),
            num_in=arrived.num_in.get(delivery, 0),
            num_accepted=tally.accepted[delivery],
            num_quarantined=tally.quarantined[delivery],
        )
        for delivery in named
    )


def _named(item: DeliveryReport) -> str:
    return f"{item.file} ({item.delivery[:8]})" if item.file else item.delivery[:8]


def _reasons(tally: Tally, policy: IntakeConfig) -> tuple[ReasonReport, ...]:
    """Tell the reasons, the most frequent first."""

    def told(problem: Problem, met: Met) -> ReasonReport:
        examples = tuple(
            ExampleReport(delivery=one.delivery, position=one.position, got=one.got)
            for one in met.examples[: policy.num_examples]
        )
        content = {**problem._asdict(), "count": met.count, "examples": examples}
        return ReasonReport.model_validate(content)

    ordered = sorted(tally.problems.items(), key=lambda item: (-item[1].count, item[0]))
    return tuple(told(*item) for item in ordered)


def _sum(tally: Tally, of: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for problem, met in tally.problems.items():
        if problem.of == of:
            counts[problem.subject] += met.count
    return counts


def _rules(tally: Tally, contract: Contract) -> tuple[RuleReport, ...]:
    broken = _sum(tally, "rule")
    return tuple(
        RuleReport(
            name=rule.name,
            expect=rule.expect,
            description=rule.description,
            num_broken=broken[rule.name],
        )
        for rule in contract.rules
    )


def _forbidden(
    deliveries: Sequence[DeliveryReport], contract: Contract
) -> tuple[ForbiddenReport, ...]:
    """Count where each forbidden column came, whether or not it did."""

    def told(name: str) -> ForbiddenReport:
        found = [delivery for delivery in deliveries if name in delivery.left_out]
        num_rows = sum(delivery.num_in for delivery in found)
        return ForbiddenReport(column=name, num_deliveries=len(found), num_rows=num_rows)

    return tuple(told(column.name) for column in contract.forbidden)


def _columns(tally: Tally, contract: Contract) -> tuple[ColumnReport, ...]:
    complaints = _sum(tally, "column")
    return tuple(_column(column, tally, complaints[column.name]) for column in contract.columns)


def _column(column: Column, tally: Tally, num_complaints: int) -> ColumnReport:
    figures = tally.columns.get(column.name)
    unseen = [
        met.count
        for problem, met in tally.problems.items()
        if problem.subject == column.name and problem.problem.startswith(OUTSIDE_SET)
    ]
    told: dict[str, object] = {
        **column.model_dump(include={"name", "kind", "unit", "privacy"}),
        "shows_values": figures is not None and figures.known is not None,
        "num_rows": figures.num_rows if figures else 0,
        "null_share": figures.num_nulls / max(figures.num_rows, 1) if figures else 0.0,
        "num_complaints": num_complaints,
        "num_unseen": sum(unseen),
    }
    known = figures.known if figures else None
    if isinstance(known, Numbers):
        told |= _numbers(known)
    elif isinstance(known, Times):
        told |= {"minimum": _iso(known.minimum), "maximum": _iso(known.maximum)}
    elif isinstance(known, Values):
        top = [TopValue(value=value, count=count) for value, count in known.top(NUM_TOP)]
        distinct = None if known.shortfall else len(known.counts)
        told |= {"top": top, "num_distinct": distinct, "short_by": known.shortfall}
    return ColumnReport.model_validate(told)


def _numbers(known: Numbers) -> dict[str, object]:
    quantiles = {f"{share:g}": known.quantile(share) for share in QUANTILES}
    edges, counts = known.histogram(NUM_BINS)
    return {
        "minimum": known.minimum,
        "maximum": known.maximum,
        "quantiles": {share: value for share, value in quantiles.items() if value is not None},
        "edges": edges,
        "counts": counts,
    }


def _iso(micros: int | None) -> str | None:
    """Write a time; one beyond the years of Python's calendar is written as Arrow does."""
    if micros is None:
        return None
    try:
        return moment(micros).isoformat()
    except OverflowError:
        return str(pa.scalar(micros, pa.int64()).cast(TIMESTAMP).cast(pa.string()))


def _freshness(
    newest: int | None, before: int | None, at: datetime, policy: IntakeConfig
) -> FreshnessReport:
    latest = max((time for time in (newest, before) if time is not None), default=None)
    age = age_of(latest, at)
    return FreshnessReport(newest=_iso(latest), age_hours=age, max_age_hours=policy.max_age_hours)


def _volume(num_rows: int, earlier: Sequence[int], policy: IntakeConfig) -> VolumeReport:
    enough = len(earlier) >= policy.min_earlier
    return VolumeReport(
        num_rows=num_rows,
        median=float(median(earlier)) if enough else None,
        num_earlier=len(earlier),
    )

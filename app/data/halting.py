"""Decide whether an ingest goes on: how much was refused, how fresh it is, how much came.

A pure function of facts and dials that returns its reasons; knows nothing of rows, tables or files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from app.contracts.rows import Frozen
from app.sections import IntakeConfig

Response = Literal["warn", "stop"]
# So many deliveries are named; the report counts all.
MAX_TOLD = 5


class Finding(Frozen):
    """One thing that is not as it must be."""

    about: Literal["quarantined", "freshness", "volume"]
    response: Response
    reason: str


class Verdict(Frozen):
    """What becomes of an ingest, and every reason."""

    action: Literal["pass", "warn", "stop"] = "pass"
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class IngestFacts:
    """What a verdict is about.

    `num_in` and `num_quarantined` are rows. `rows` are those that the ingest takes, by the name of
    each delivery that it takes up; empty when nothing new was delivered. `newest` is the latest
    time asked of any row that is known by now, `age_hours` how long ago that was. `median` is over
    the rows of earlier ingests; None when too few are known.
    """

    num_in: int
    num_quarantined: int
    rows: Mapping[str, int] = field(default_factory=dict)
    newest: str | None = None
    age_hours: float | None = None
    median: float | None = None


class IngestStopped(ValueError):
    """An ingest that was stopped: nothing of it was brought in. Its report says all."""

    def __init__(self, verdict: Verdict, report: Path) -> None:
        """Say in one line why, and what can be done."""
        reasons = [finding.reason for finding in verdict.findings if finding.response == "stop"]
        super().__init__(
            f"the ingest stops, nothing was brought in: {'; '.join(reasons)}; see {report}; "
            "mend the source, or change the bound in intake, and run it again"
        )
        self.verdict = verdict
        self.report = report


def judge(facts: IngestFacts, policy: IntakeConfig) -> Verdict:
    """Hold an ingest against the policy.

    >>> judge(IngestFacts(100, 37), IntakeConfig(stop_above_share=0.2)).findings[0].reason
    '37 of 100 rows (37.0 %) are quarantined, more than intake.stop_above_share 20.0 %'
    """
    findings = (*_refused(facts, policy), *_freshness(facts, policy), *_volume(facts, policy))
    if not findings:
        return Verdict()
    stops = any(finding.response == "stop" for finding in findings)
    return Verdict(action="stop" if stops else "warn", findings=findings)


def is_too_old(age_hours: float | None, policy: IntakeConfig) -> bool:
    """Tell whether the newest row is older than the policy allows; so is no row at all."""
    most = policy.max_age_hours
    return most is not None and (age_hours is None or age_hours > most)


def _refused(facts: IngestFacts, policy: IntakeConfig) -> Iterator[Finding]:
    most = policy.stop_above_share
    if most is None or not facts.num_in:
        return
    share = facts.num_quarantined / facts.num_in
    if share > most:
        counted = f"{facts.num_quarantined:,} of {facts.num_in:,} rows ({_percent(share)})"
        reason = f"{counted} are quarantined, more than intake.stop_above_share {_percent(most)}"
        yield Finding(about="quarantined", response="stop", reason=reason)


def _freshness(facts: IngestFacts, policy: IntakeConfig) -> Iterator[Finding]:
    most = policy.max_age_hours
    if most is None or not is_too_old(facts.age_hours, policy):
        return
    if facts.age_hours is None:
        reason = f"no row is known at all; one may be {most:g} hours old (intake.max_age_hours)"
        yield Finding(about="freshness", response=policy.stale, reason=reason)
    else:
        reason = (
            f"the newest row, of {facts.newest}, is {facts.age_hours:,.1f} hours old, more than "
            f"intake.max_age_hours {most:g}"
        )
        yield Finding(about="freshness", response=policy.stale, reason=reason)


def _volume(facts: IngestFacts, policy: IntakeConfig) -> Iterator[Finding]:
    outside = {
        name: (number, bound)
        for name, number in facts.rows.items()
        if (bound := _outside(number, policy.min_rows, policy.max_rows, "rows"))
    }
    for name, (number, bound) in list(outside.items())[:MAX_TOLD]:
        yield _of_volume(policy, f"delivery {name} has {number:,} rows, {bound}")
    if len(outside) > MAX_TOLD:
        yield _of_volume(policy, f"so it is with {len(outside) - MAX_TOLD:,} other deliveries")
    if not facts.rows or not facts.median:
        return
    share = facts.num_in / facts.median
    bound = _outside(share, policy.min_median_share, policy.max_median_share, "median_share")
    if bound:
        told = f"{facts.num_in:,} rows came, {share:.2f} of the median of earlier ingests"
        yield _of_volume(policy, f"{told} ({facts.median:,g}), {bound}")


def _of_volume(policy: IntakeConfig, reason: str) -> Finding:
    return Finding(about="volume", response=policy.volume, reason=reason)


def _outside(number: float, least: float | None, most: float | None, dial: str) -> str:
    if least is not None and number < least:
        return f"less than intake.min_{dial} {least:,g}"
    if most is not None and number > most:
        return f"more than intake.max_{dial} {most:,g}"
    return ""


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"

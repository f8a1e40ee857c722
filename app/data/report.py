"""What the report on one ingest says, and where it is kept.

A document for programs, from which the page for people is made; knows nothing of how it came about.
It holds no value of a column that is personal, quasi or an identifier, nor of a forbidden one.
"""

import hashlib
import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from app.contracts.rows import Frozen
from app.data.halting import Verdict

logger = logging.getLogger(__name__)


class Counts(Frozen):
    """num_in = num_accepted + num_quarantined, exactly; another report cannot be made."""

    num_in: int = Field(ge=0)
    num_accepted: int = Field(ge=0)
    num_quarantined: int = Field(ge=0)

    @model_validator(mode="after")
    def _nothing_is_lost(self) -> Self:
        if self.num_in != self.num_accepted + self.num_quarantined:
            raise ValueError(
                f"{self.num_in} rows came in, {self.num_accepted} were accepted and "
                f"{self.num_quarantined} quarantined: rows were lost or doubled"
            )
        return self


class DeliveryReport(Counts):
    """What became of one delivery, as far as this ingest took it up."""

    delivery: str
    file: str | None = None
    left_out: tuple[str, ...] = Field((), description="Forbidden columns that stood in it.")


class ExampleReport(Frozen):
    """Where a reason was met; what was got is empty where it may not be shown."""

    delivery: str
    position: int
    got: str = ""


class ReasonReport(Frozen):
    """How often something was wrong. A row can have several reasons."""

    of: Literal["column", "rule", "row"]
    subject: str
    problem: str
    count: int
    examples: tuple[ExampleReport, ...]


class TopValue(Frozen):
    """A category and how often it came."""

    value: str
    count: int


class ColumnReport(Frozen):
    """One column over the accepted rows; without values where they may not be shown."""

    name: str
    kind: str
    unit: str
    privacy: str
    shows_values: bool
    num_rows: int
    null_share: float
    num_complaints: int = Field(description="Reasons about this column among the quarantined rows.")
    num_unseen: int = Field(description="Values outside the closed set of the contract.")
    minimum: float | str | None = None
    maximum: float | str | None = None
    quantiles: dict[str, float] = Field({}, description="By share, within one part in 256.")
    edges: tuple[float, ...] = Field((), description="Of the histogram; ends hold what is beyond.")
    counts: tuple[int, ...] = ()
    top: tuple[TopValue, ...] = ()
    num_distinct: int | None = Field(None, description="Categories; None when too many to count.")
    short_by: int = Field(0, description="A count of `top` may be too low by this.")


class RuleReport(Frozen):
    """A rule of the contract and the rows that broke it."""

    name: str
    expect: str
    description: str
    num_broken: int


class ForbiddenReport(Frozen):
    """A column that must not come in, and where it came and was left out."""

    column: str
    num_deliveries: int
    num_rows: int


class FreshnessReport(Frozen):
    """How old the newest row is that is known by now."""

    newest: str | None
    age_hours: float | None
    max_age_hours: float | None


class VolumeReport(Frozen):
    """How much came, beside earlier ingests."""

    num_rows: int
    median: float | None
    num_earlier: int


class IngestReport(Frozen):
    """All of one ingest."""

    format: Literal[1] = 1
    model: str
    at: datetime
    until: datetime | None
    contract: str = Field(description="Digest of the contract that rows were held against.")
    verdict: Verdict
    rows: Counts
    outcomes: Counts
    num_readmitted: int = Field(
        0, ge=0, description="Outcomes quarantined before whose rows have come; apart from counts."
    )
    deliveries: tuple[DeliveryReport, ...]
    outcome_deliveries: tuple[DeliveryReport, ...]
    reasons: tuple[ReasonReport, ...]
    outcome_reasons: tuple[ReasonReport, ...]
    rules: tuple[RuleReport, ...]
    forbidden: tuple[ForbiddenReport, ...]
    columns: tuple[ColumnReport, ...]
    freshness: FreshnessReport
    volume: VolumeReport

    @model_validator(mode="after")
    def _deliveries_add_up(self) -> Self:
        for whole, parts in (
            (self.rows, self.deliveries),
            (self.outcomes, self.outcome_deliveries),
        ):
            if whole.num_in != sum(part.num_in for part in parts):
                raise ValueError(f"{whole.num_in} rows came in, and others by delivery")
        return self


def write_report(report: IngestReport, folder: Path) -> Path:
    """Write a report, aside first; its name begins with its time, and equal reports are one."""
    content = _content(report)
    digest = hashlib.sha256(content).hexdigest()[:8]
    path = folder / f"{report.at:%Y%m%dT%H%M%SZ}-{digest}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return _write(content, path)


def note_readmitted(path: Path, number: int) -> Path:
    """Note in a report how many earlier outcomes found their rows, after it let the ingest in."""
    report = read_report(path).model_copy(update={"num_readmitted": number})
    return _write(_content(report), path)


def _content(report: IngestReport) -> bytes:
    return report.model_dump_json(indent=1).encode()


def _write(content: bytes, path: Path) -> Path:
    aside = path.with_suffix(".tmp")
    aside.write_bytes(content)
    return aside.replace(path)


def rows_of_earlier(folder: Path, number: int) -> list[int]:
    """Return the rows of the latest ingests that were reported, brought rows in and went on."""
    found: list[int] = []
    for path in sorted(folder.glob("*.json"), reverse=True):
        try:
            document = json.loads(path.read_bytes())
            stopped = document["verdict"]["action"] == "stop"
            num_in = int(document["rows"]["num_in"])
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s is no report on an ingest (%s); it is left out", path, error)
            continue
        if num_in and not stopped:
            found.append(num_in)
        if len(found) == number:
            break
    return found


def read_report(path: Path) -> IngestReport:
    """Read what write_report wrote. Raises ValueError when it is none."""
    return IngestReport.model_validate_json(path.read_bytes())

"""What an ingest brought in, delivery by delivery and in all, and what it tells meanwhile.

Knows counts; knows nothing of rows, files, Ray or tables.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from app.contracts.rows import Frozen

LISTED = 100


class Progress(NamedTuple):
    """How far an ingest has come: deliveries committed, of how many; rows read so far."""

    num_done: int
    num_deliveries: int
    num_rows: int


class DeliveryCount(Frozen):
    """What became of one delivery. num_in = num_accepted + num_quarantined, exactly."""

    name: str
    digest: str
    table: Literal["events", "labels"]
    num_in: int = Field(ge=0)
    num_accepted: int = Field(ge=0)
    num_quarantined: int = Field(ge=0)
    rewritten: bool = Field(False, description="A file of this name came before, with other bytes.")


class RefusedFile(Frozen):
    """A file that could not be read, and why; nothing of it was brought in."""

    name: str
    problem: str


class IngestResult(Frozen):
    """What an ingest brought in. num_in = num_accepted + num_quarantined, exactly.

    The same holds for outcomes: num_labels_in = num_labels + num_labels_quarantined.
    """

    num_deliveries: int = Field(ge=0, description="Files, or packages, looked into.")
    num_in: int = Field(ge=0, description="Rows that no earlier ingest has brought in.")
    num_accepted: int = Field(ge=0)
    num_quarantined: int = Field(ge=0)
    num_labels_in: int = Field(ge=0)
    num_labels: int = Field(ge=0)
    num_labels_quarantined: int = Field(ge=0)
    num_readmitted: int = Field(
        0,
        ge=0,
        description="Outcomes that were quarantined before because their row was unknown; it is "
        "known now, and they are in.",
    )
    events_version: int
    quarantine_version: int
    labels_version: int
    num_rewritten: int = Field(0, ge=0, description="Files that came with other bytes than before.")
    deliveries: tuple[DeliveryCount, ...] = Field(
        (), description=f"The last {LISTED} deliveries, one by one."
    )
    waiting: tuple[str, ...] = Field((), description="Files that are still being written.")
    refused: tuple[RefusedFile, ...] = ()
    report: str | None = Field(None, description="The report's file, if there was a delivery.")


class Versions(NamedTuple):
    """The versions of the tables after an ingest."""

    events_version: int
    quarantine_version: int
    labels_version: int


def total(
    counts: Sequence[DeliveryCount],
    versions: Versions,
    waiting: Iterable[str] = (),
    refused: Iterable[RefusedFile] = (),
    report: str | None = None,
) -> IngestResult:
    """Add up what became of deliveries."""
    rows = [count for count in counts if count.table == "events"]
    labels = [count for count in counts if count.table == "labels"]
    return IngestResult(
        num_deliveries=len(rows),
        num_in=sum(count.num_in for count in rows),
        num_accepted=sum(count.num_accepted for count in rows),
        num_quarantined=sum(count.num_quarantined for count in rows),
        num_labels_in=sum(count.num_in for count in labels),
        num_labels=sum(count.num_accepted for count in labels),
        num_labels_quarantined=sum(count.num_quarantined for count in labels),
        num_rewritten=sum(count.rewritten for count in counts),
        deliveries=tuple(counts[-LISTED:]),
        waiting=tuple(waiting)[:LISTED],
        refused=tuple(refused)[:LISTED],
        report=report,
        **versions._asdict(),
    )


def together(earlier: IngestResult | None, later: IngestResult) -> IngestResult:
    """Add an ingest to those before it; what waits or is refused is as the last one found it."""
    if earlier is None:
        return later
    numbers = {
        name: getattr(earlier, name) + getattr(later, name)
        for name in IngestResult.model_fields
        if name.startswith("num_")
    }
    listed = (*earlier.deliveries, *later.deliveries)[-LISTED:]
    report = later.report or earlier.report
    return later.model_copy(update={**numbers, "deliveries": listed, "report": report})

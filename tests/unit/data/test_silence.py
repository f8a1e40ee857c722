"""A follower tells once that its feed fell silent, and that it is back; the clock is driven."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import SecretBytes

from app.config import Config
from app.contracts.rows import Contract
from app.data.halting import Finding, IngestStopped, Verdict
from app.data.looks import Looks
from app.data.report import read_report
from app.data.silence import notice_silence, told_by
from app.data.tables import Tables
from app.data.validation import validate
from app.data.watching import Watch
from app.sections import IntakeConfig
from app.security.privacy import Pseudonymiser

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
SECRET = Pseudonymiser(SecretBytes(b"k" * 32))
# A parcel is asked about half an hour before it is promised.
FIRST = datetime(2024, 3, 1, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Feed:
    """A follower's looks at tables into which rows come; each says what was told."""

    def __init__(
        self, config: Config, tables: Tables, make: Make, table: MakeTable, log: object
    ) -> None:
        self.config, self.tables = config, tables
        self._make, self._table, self._log = make, table, log
        self.watch = Watch(looks=Looks(following=True))

    def deliver(self, number: int) -> None:
        accepted = validate(
            self._table([self._make(number)]), self.tables.contract, pseudonymiser=SECRET
        ).accepted
        self.tables.append("events", self.tables.complete("events", accepted, FIRST, "test"))

    def look(self, hours: float, *, is_told: bool = False) -> tuple[list[str], Path | None]:
        self._log.clear()  # type: ignore[attr-defined]
        at = FIRST + hours * HOUR
        report = notice_silence(self.config, self.tables, self.watch, at, is_told=is_told)
        return list(self._log.messages), report  # type: ignore[attr-defined]


@pytest.fixture(params=["warn", "stop"])
def feed(
    request: pytest.FixtureRequest,
    flights: Config,
    parcels: Contract,
    parcel: Make,
    parcel_table: MakeTable,
    caplog: pytest.LogCaptureFixture,
) -> Feed:
    intake = IntakeConfig(max_age_hours=26, stale=request.param)
    config = flights.model_copy(update={"contract": parcels, "intake": intake})
    return Feed(config, Tables(config.tables_path, parcels), parcel, parcel_table, caplog)


QUIET: tuple[list[str], None] = ([], None)


def test_silence_is_told_once_with_a_report_and_again_after_it_recovered(feed: Feed) -> None:
    feed.deliver(0)
    assert feed.look(0) == QUIET
    assert feed.look(26) == QUIET
    (message,), path = feed.look(26.5)
    assert message == (
        "ingest of flights: the newest row, of 2024-03-01T09:30:00+00:00, is 26.5 hours old, "
        "more than intake.max_age_hours 26"
    )
    assert path is not None
    report = read_report(path)
    # Nobody is stopped by rows that do not come.
    assert report.verdict.action == "warn"
    assert [finding.about for finding in report.verdict.findings] == ["freshness"]
    assert (report.rows.num_in, report.freshness.age_hours) == (0, 26.5)
    assert [feed.look(hours) for hours in (27, 28, 29)] == [QUIET] * 3
    feed.deliver(1)
    assert feed.look(30) == (["ingest of flights: its newest row is fresh again"], None)
    assert feed.look(50) == QUIET
    (message,), path = feed.look(51)
    assert "27.0 hours old" in message
    assert len(list(feed.config.ingest_reports_path.glob("*.json"))) == 2


def test_a_feed_from_which_nothing_ever_came_is_told(feed: Feed) -> None:
    (message,), path = feed.look(0)
    assert "no row is known at all" in message
    assert path is not None
    assert feed.look(1) == QUIET


def test_what_a_report_told_is_not_told_again_but_counts(feed: Feed) -> None:
    feed.deliver(0)
    assert feed.look(27, is_told=True) == QUIET
    assert feed.look(28) == QUIET
    feed.deliver(1)
    messages, _ = feed.look(29)
    assert "fresh again" in messages[0]


def test_a_single_ingest_and_a_model_without_a_bound_are_told_nothing(feed: Feed) -> None:
    feed.watch.looks.following = False
    assert feed.look(1000) == QUIET
    feed.watch.looks.following = True
    feed.config = feed.config.model_copy(update={"intake": IntakeConfig()})
    assert feed.look(1000) == QUIET


def test_a_look_reads_no_file_where_no_row_came(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed.deliver(0)
    feed.look(0)

    def refuse(*_: object) -> None:
        raise AssertionError("files are opened although no row came")

    monkeypatch.setattr(Tables, "latest", refuse)
    assert feed.look(1) == QUIET


def test_a_stopped_ingest_has_told_of_age_only_where_that_is_a_finding() -> None:
    def stopped(about: str) -> IngestStopped:
        finding = Finding.model_validate({"about": about, "response": "stop", "reason": "why"})
        return IngestStopped(Verdict(action="stop", findings=(finding,)), Path("report.json"))

    assert told_by(stopped("freshness"))
    assert not told_by(stopped("volume"))
    assert not told_by(ValueError("the store is away"))

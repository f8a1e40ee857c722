"""A report tells all of an ingest, adds up or cannot be made, and shows no guarded value."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import SecretBytes, ValidationError

from app.config import Config
from app.contracts.rows import Contract
from app.contracts.times import micros_of
from app.data.admission import Taken, admit
from app.data.deliveries import Delivery
from app.data.files import Piece, Rows
from app.data.halting import IngestStopped
from app.data.intake import FOREVER, Window
from app.data.judging import Judging, judge_and_stage, stage_outcomes
from app.data.labels import KNOWN_LABELS
from app.data.report import Counts, IngestReport, read_report, rows_of_earlier, write_report
from app.data.reporting import Arrived, make_report
from app.data.settling import Ids, Settled, settle_rows
from app.data.stagedfiles import StagedFiles
from app.data.staging import Staged
from app.data.tables import Tables
from app.data.tally import Tally
from app.data.validation import LABEL_COLUMNS
from app.sections import IntakeConfig
from app.security.privacy import Pseudonymiser
from app.security.tombstones import Tombstones

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
KEY = SecretBytes(b"k" * 32)
SECRET = Pseudonymiser(KEY)
EVERYTHING = Window(FOREVER, {})
AT = datetime(2024, 4, 1, tzinfo=UTC)


@pytest.fixture
def shop(flights: Config, parcels: Contract) -> Config:
    given = parcels.model_dump()
    given["columns"] = [
        *given["columns"],
        {"name": "passport", "kind": "identifier", "privacy": "forbidden"},
    ]
    given["rules"] = [
        {"name": "light_in_the_north", "expect": "weight < 30 or depot != 'north'"},
        {"name": "never_broken", "expect": "weight >= 0"},
    ]
    return flights.model_copy(update={"contract": Contract.model_validate(given)})


@pytest.fixture
def arrive(
    shop: Config, parcel_table: MakeTable, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Arrived, Arrived]]:
    """A function that brings rows in as one file, which had a forbidden column, and one outcome."""
    rows_digest, labels_digest, contract = "d1" * 16, "l1" * 16, shop.contract
    piece = Piece("far/away/monday.csv", "csv", rows_digest, left_out=("passport",))

    def bring(rows: list[dict[str, object]]) -> tuple[Arrived, Arrived]:
        files = StagedFiles(tmp_path_factory.mktemp("staged"))
        judging = Judging(contract, SECRET, Tombstones(KEY), files)
        block = Rows(parcel_table(rows), np.arange(len(rows)), [], rows_digest).with_places()
        staged = judge_and_stage(block, judging=judging, window=EVERYTHING).to_pylist()
        seen = {column.name: Ids() for column in contract.unique}
        blocks = [Staged.of_row(row) for row in staged]
        came = Taken(contract)
        settled = settle_rows(rows_digest, blocks, contract, seen, SECRET, files)
        came.add(Delivery(rows_digest, piece.path, pieces=(piece,)), settled)
        outcome = {"row_id": ["P7"], "label": [1], "void": [False], "known_at": [AT]}
        labels = Rows(pa.table(outcome).cast(KNOWN_LABELS), np.arange(1), [], labels_digest)
        told = Taken(LABEL_COLUMNS, ())
        outcomes = stage_outcomes(labels, judging, EVERYTHING, Ids())
        told.add(
            Delivery(labels_digest, "labels.csv"), Settled(labels_digest, (outcomes,), {}, files)
        )
        return came.arrived(), told.arrived()

    return bring


def rows_of(parcel: Make) -> list[dict[str, object]]:
    return [
        parcel(0, rain=3.0),
        parcel(1, depot="east", sender="Ada Lovelace"),
        parcel(2, weight=31, sender="Ada Lovelace"),
        parcel(3, depot="south"),
    ]


def test_a_report_says_what_came_and_what_was_refused_and_why(
    shop: Config, arrive: Callable[..., tuple[Arrived, Arrived]], parcel: Make
) -> None:
    report = make_report(shop, *arrive(rows_of(parcel)), AT)
    assert report.rows == Counts(num_in=4, num_accepted=2, num_quarantined=2)
    assert report.outcomes == Counts(num_in=1, num_accepted=0, num_quarantined=1)
    (delivery,) = report.deliveries
    assert (delivery.file, delivery.num_in, delivery.left_out) == ("monday.csv", 4, ("passport",))
    told = [(reason.of, reason.subject, reason.count) for reason in report.reasons]
    assert told == [("column", "depot", 1), ("rule", "light_in_the_north", 1)]
    assert [(rule.name, rule.num_broken) for rule in report.rules] == [
        ("light_in_the_north", 1),
        ("never_broken", 0),
    ]
    (forbidden,) = report.forbidden
    assert (forbidden.column, forbidden.num_deliveries, forbidden.num_rows) == ("passport", 1, 4)
    assert report.verdict.action == "pass"


def test_columns_are_told_over_the_accepted_rows(
    shop: Config, arrive: Callable[..., tuple[Arrived, Arrived]], parcel: Make
) -> None:
    report = make_report(shop, *arrive(rows_of(parcel)), AT)
    columns = {column.name: column for column in report.columns}
    assert (columns["rain"].null_share, columns["rain"].minimum) == (0.5, 3.0)
    assert columns["weight"].quantiles["0.5"] == 2.5
    assert columns["promised"].maximum == "2024-03-04T10:00:00+00:00"
    depot = columns["depot"]
    assert [(top.value, top.count) for top in depot.top] == [("north", 1), ("south", 1)]
    assert (depot.num_complaints, depot.num_unseen, depot.num_distinct) == (1, 1, 2)
    assert not columns["sender"].shows_values
    assert not columns["sender"].top


def test_a_report_whose_counts_differ_cannot_be_made(
    shop: Config, arrive: Callable[..., tuple[Arrived, Arrived]], parcel: Make
) -> None:
    rows, outcomes = arrive(rows_of(parcel))
    lost = Arrived(rows.tally, {"d1" * 16: 5}, rows.pending)
    with pytest.raises(ValidationError, match="5 rows came in, 2 were accepted and 2 quarantined"):
        make_report(shop, lost, outcomes, AT)
    good = make_report(shop, rows, outcomes, AT)
    with pytest.raises(ValidationError, match="4 rows came in, and others by delivery"):
        IngestReport.model_validate({**good.model_dump(), "deliveries": ()})


def test_a_delivery_without_rows_is_in_the_report(shop: Config) -> None:
    rows = Arrived(Tally(), {}, ["d9"], {"d9": "empty.csv"})
    policy = shop.model_copy(update={"intake": IntakeConfig(min_rows=1)})
    report = make_report(policy, rows, Arrived(Tally(), {}, []), AT)
    assert [(one.file, one.num_in) for one in report.deliveries] == [("empty.csv", 0)]
    assert report.verdict.action == "warn"


@pytest.mark.parametrize(("before", "hours"), [(None, 662.5), (timedelta(hours=-1), 1.0)])
def test_freshness_is_about_the_newest_row_known_by_now(
    shop: Config,
    arrive: Callable[..., tuple[Arrived, Arrived]],
    parcel: Make,
    before: timedelta | None,
    hours: float,
) -> None:
    known = None if before is None else micros_of(AT + before)
    report = make_report(shop, *arrive(rows_of(parcel)), AT, newest_before=known)
    # The newest accepted row is asked half an hour before 4 March, 10 o'clock.
    assert report.freshness.age_hours == hours


def test_the_median_is_of_enough_earlier_ingests(
    shop: Config, arrive: Callable[..., tuple[Arrived, Arrived]], parcel: Make
) -> None:
    arrived = arrive(rows_of(parcel))
    medians = [
        make_report(shop, *arrived, AT, earlier=earlier).volume.median
        for earlier in ([], [4, 10], [4, 100, 10])
    ]
    assert medians == [None, None, 10.0]


def test_no_value_that_must_not_be_shown_is_in_the_bytes_of_a_report(
    shop: Config, arrive: Callable[..., tuple[Arrived, Arrived]], parcel: Make, tmp_path: Path
) -> None:
    path = write_report(make_report(shop, *arrive(rows_of(parcel)), AT), tmp_path)
    content = path.read_bytes()
    hidden = ("Ada", SECRET.one("Ada Lovelace"), SECRET.one("sender 0"), "P0", "P7", "far/away")
    assert not [value for value in hidden if value.encode() in content]
    assert read_report(path).rows.num_in == 4


def test_reports_are_named_by_their_time_and_written_whole(
    shop: Config, arrive: Callable[..., tuple[Arrived, Arrived]], parcel: Make, tmp_path: Path
) -> None:
    report = make_report(shop, *arrive(rows_of(parcel)), AT)
    folder = tmp_path / "reports"
    paths = {write_report(report, folder) for _ in range(2)}
    later = write_report(report.model_copy(update={"at": AT + timedelta(days=1)}), folder)
    assert sorted(folder.iterdir()) == [*paths, later]
    assert later.name.startswith("20240402T000000Z-")


def test_earlier_ingests_are_those_that_brought_rows_in(
    shop: Config,
    arrive: Callable[..., tuple[Arrived, Arrived]],
    parcel: Make,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    report = make_report(shop, *arrive(rows_of(parcel)), AT)
    changes = [
        {},
        {"verdict": {"action": "stop", "findings": []}},
        {"rows": {"num_in": 0}},
        {"rows": {"num_in": 9}},
    ]
    for day, change in enumerate(changes):
        document = {**json.loads(report.model_dump_json()), **change}
        (tmp_path / f"2024040{day}.json").write_text(json.dumps(document))
    (tmp_path / "20240409.json").write_text("{}")
    (tmp_path / "20240408.json").write_text("half a repor")
    caplog.set_level(logging.WARNING)
    assert rows_of_earlier(tmp_path, 9) == [9, 4]
    assert rows_of_earlier(tmp_path, 1) == [9]
    assert "20240408.json is no report" in caplog.text
    assert rows_of_earlier(tmp_path / "none", 9) == []


def test_an_ingest_that_is_stopped_leaves_its_report_and_says_where(
    shop: Config, arrive: Callable[..., tuple[Arrived, Arrived]], parcel: Make
) -> None:
    config = shop.model_copy(update={"intake": IntakeConfig(stop_above_share=0.4)})
    tables = Tables(config.tables_path, config.contract)
    with pytest.raises(IngestStopped, match=r"2 of 4 rows \(50\.0 %\) are quarantined") as caught:
        admit(config, tables, *arrive(rows_of(parcel)), AT)
    assert read_report(caught.value.report).verdict.action == "stop"
    assert str(caught.value.report) in str(caught.value)


def test_a_repeat_that_finds_nothing_new_leaves_no_report_unless_the_data_are_stale(
    shop: Config, arrive: Callable[..., tuple[Arrived, Arrived]], parcel: Make
) -> None:
    nothing = Arrived(Tally(), {}, [])
    tables = Tables(shop.tables_path, shop.contract)
    assert admit(shop, tables, nothing, nothing, AT) is None
    stale = shop.model_copy(update={"intake": IntakeConfig(max_age_hours=1)})
    path = admit(stale, tables, nothing, nothing, AT)
    assert path is not None
    assert read_report(path).verdict.action == "warn"


def test_rows_that_are_in_already_keep_the_data_fresh(
    shop: Config, arrive: Callable[..., tuple[Arrived, Arrived]], parcel: Make
) -> None:
    config = shop.model_copy(update={"intake": IntakeConfig(max_age_hours=700, stale="stop")})
    tables = Tables(config.tables_path, config.contract)
    nothing = Arrived(Tally(), {}, [])
    with pytest.raises(IngestStopped, match="no row is known at all"):
        admit(config, tables, nothing, nothing, AT)
    rows, _ = arrive(rows_of(parcel))
    row = parcel(3, promised=AT - timedelta(hours=600))
    accepted = pa.Table.from_pylist([row], config.contract.schema)
    tables.append("events", tables.complete("events", accepted, AT, "test"))
    assert rows.pending
    assert admit(config, tables, nothing, nothing, AT) is None

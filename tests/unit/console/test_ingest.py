"""The page of an ingest shows its report, escaped, in one file that fetches nothing."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.console.ingest import page_of, render_ingest, write_ingest_page
from app.data.halting import Finding, Verdict
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
    write_report,
)
from tests.unit.console.test_page import Balance

AT = datetime(2024, 4, 1, 12, tzinfo=UTC)
EVIL = "<script>alert('x')</script>"


def column(name: str, kind: str, **changes: object) -> ColumnReport:
    parts = {
        "name": name, "kind": kind, "unit": "", "privacy": "public", "shows_values": True,
        "num_rows": 7, "null_share": 0.0, "num_complaints": 0, "num_unseen": 0,
    }  # fmt: skip
    return ColumnReport.model_validate({**parts, **changes})


def report(**changes: object) -> IngestReport:
    counts = {"num_in": 10, "num_accepted": 7, "num_quarantined": 3}
    example = ExampleReport(delivery="d1", position=4, got=EVIL)
    top = [TopValue(value=EVIL, count=4), TopValue(value="south", count=3)]
    parts = {
        "model": "parcels", "at": AT, "until": None, "contract": "abc123",
        "verdict": Verdict(), "rows": Counts(**counts),
        "outcomes": Counts(num_in=0, num_accepted=0, num_quarantined=0),
        "deliveries": (
            DeliveryReport(delivery="d1", file="mon.csv", left_out=("iban",), **counts),
        ),
        "outcome_deliveries": (),
        "reasons": (
            ReasonReport(of="column", subject="depot", problem="must be one of a, b", count=2,
                         examples=(example,)),
            ReasonReport(of="rule", subject="light", problem="expected weight < 30", count=1,
                         examples=(ExampleReport(delivery="d1", position=9),)),
        ),
        "outcome_reasons": (),
        "rules": (RuleReport(name="light", expect="weight < 30", description="", num_broken=1),),
        "forbidden": (ForbiddenReport(column="iban", num_deliveries=1, num_rows=10),),
        "columns": (
            column("parcel", "identifier", shows_values=False),
            column("promised", "time", minimum="2024-03-01T10:00:00+00:00",
                   maximum="2024-03-09T10:00:00+00:00"),
            column("depot", "category", top=top, num_distinct=2, num_complaints=2, num_unseen=2),
            column("weight", "number", unit="kg", minimum=1.0, maximum=1234567.0, null_share=0.25,
                   quantiles={"0.5": 3.5}, edges=[1.0, 2.0, 3.0], counts=[1, 6]),
            column("rain", "number", null_share=1.0),
        ),
        "freshness": FreshnessReport(newest=None, age_hours=None, max_age_hours=None),
        "volume": VolumeReport(num_rows=10, median=20.0, num_earlier=5),
    }  # fmt: skip
    return IngestReport.model_validate({**parts, **changes})


def text_of(page: str) -> str:
    return re.sub(r"<[^>]+>", " ", page.split("</style>")[1]).replace("\N{NO-BREAK SPACE}", " ")


def test_every_element_is_closed() -> None:
    checker = Balance()
    checker.feed(render_ingest(report()))
    assert checker.open == []
    assert {"svg", "table", "h1", "dl"} <= set(checker.seen)


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = render_ingest(report())
    assert not re.search(r"<script|\b(src|srcset|href)=|@import|url\(|https?://", page)


def test_what_came_from_outside_is_escaped() -> None:
    page = render_ingest(report(model=EVIL))
    assert EVIL not in page
    assert page.count("&lt;script&gt;") >= 3


def test_counts_reasons_and_columns_are_told() -> None:
    text = " ".join(text_of(render_ingest(report())).split())
    for told in (
        "10 rows came in, 3 (30.0 %) were refused",
        "10 in = 7 accepted + 3 quarantined",
        "median before 20",
        "depot column must be one of a, b 2 20.0 %",
        "row 4 of mon.csv",
        "light weight &lt; 30 1",
        "iban 1 10",
        "mon.csv d1 10 7 3 30.0 % iban",
        "parcel identifier values withheld",
        "promised time 2024-03-01 10:00 to 2024-03-09 10:00",
        "weight number, kg 25.0 % 1 3.5 1,234,567",
        "rain number no value 100.0 %",
    ):
        assert told in text, told


@pytest.mark.parametrize(
    ("action", "headline", "named"),
    [
        ("warn", "10 rows came in, 3 (30.0 %) were refused", "Brought in, with a warning."),
        ("stop", "10 rows came, and none was let in", "Stopped."),
    ],
)
def test_the_verdict_and_its_reasons_stand_at_the_top(
    action: str, headline: str, named: str
) -> None:
    finding = Finding(about="volume", response=action, reason="delivery <x> has 3 rows")
    page = render_ingest(report(verdict=Verdict(action=action, findings=(finding,))))
    text = " ".join(text_of(page).split())
    assert headline in text
    assert named in text
    assert "delivery &lt;x&gt; has 3 rows" in text


def test_an_ingest_of_nothing_and_one_without_a_flaw_say_so() -> None:
    nothing = Counts(num_in=0, num_accepted=0, num_quarantined=0)
    empty = report(rows=nothing, deliveries=(), reasons=(), rules=(), forbidden=(), columns=())
    assert "No new rows came in" in render_ingest(empty)
    clean = {"num_in": 1, "num_accepted": 1, "num_quarantined": 0}
    delivered = (DeliveryReport(delivery="d1", **clean),)
    page = render_ingest(report(rows=Counts(**clean), deliveries=delivered, reasons=()))
    assert "1 row came in, and all of them keep the contract" in page


def test_earlier_outcomes_that_found_their_rows_are_told_apart_from_what_came() -> None:
    counts = {"num_in": 5, "num_accepted": 3, "num_quarantined": 2}
    delivered = (DeliveryReport(delivery="d2", **counts),)
    parts = {"outcomes": Counts(**counts), "outcome_deliveries": delivered}

    def told(number: int) -> str:
        page = text_of(render_ingest(report(**parts, num_readmitted=number)))
        return " ".join(page.split("How to read")[0].split())

    assert "5 2 refused; 1,234 earlier ones found their rows" in told(1234)
    assert "5 2 refused" in told(0)
    assert "found their rows" not in told(0)


def test_very_many_deliveries_and_very_long_reasons_are_cut() -> None:
    counts = {"num_in": 2, "num_accepted": 1, "num_quarantined": 1}
    many = tuple(DeliveryReport(delivery=f"d{i}", **counts) for i in range(1000))
    rows = Counts(num_in=2000, num_accepted=1000, num_quarantined=1000)
    long = ReasonReport(of="column", subject="c", problem="w" * 9999, count=1, examples=())
    page = render_ingest(report(rows=rows, deliveries=many, reasons=(long,)))
    assert "800 others, of which less was refused, are in the JSON." in page
    assert "w" * 241 not in page
    assert len(page) < 150_000


def test_the_page_stands_beside_its_report(tmp_path: Path) -> None:
    path = write_report(report(), tmp_path)
    page = write_ingest_page(path)
    assert page == page_of(path) == path.with_suffix(".html")
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".html", ".json"]
    assert 5_000 < page.stat().st_size < 200_000

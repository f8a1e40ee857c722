"""An ingest stops for the reasons that the policy names, with their numbers, and for no others."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.data.halting import Finding, IngestFacts, IngestStopped, Verdict, judge
from app.sections import IntakeConfig


def facts(**changes: object) -> IngestFacts:
    parts: dict[str, object] = {
        "num_in": 100, "num_quarantined": 10, "rows": {"a.csv": 60, "b.csv": 40},
        "newest": "2024-04-01T00:00:00+00:00", "age_hours": 12.0, "median": 200.0,
    }  # fmt: skip
    return IngestFacts(**{**parts, **changes})


def test_without_a_policy_nothing_stops_and_nothing_warns() -> None:
    worst = facts(num_quarantined=100, age_hours=1e6, rows={"a": 0}, median=1e9)
    assert judge(worst, IntakeConfig()) == Verdict(action="pass")


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (
            {"stop_above_share": 0.09},
            "10 of 100 rows (10.0 %) are quarantined, more than intake.stop_above_share 9.0 %",
        ),
        (
            {"max_age_hours": 11},
            "the newest row, of 2024-04-01T00:00:00+00:00, is 12.0 hours old, more than "
            "intake.max_age_hours 11",
        ),
        ({"min_rows": 41}, "delivery b.csv has 40 rows, less than intake.min_rows 41"),
        ({"max_rows": 59}, "delivery a.csv has 60 rows, more than intake.max_rows 59"),
        (
            {"min_median_share": 0.51},
            "100 rows came, 0.50 of the median of earlier ingests (200), less than "
            "intake.min_median_share 0.51",
        ),
        (
            {"max_median_share": 0.49},
            "100 rows came, 0.50 of the median of earlier ingests (200), more than "
            "intake.max_median_share 0.49",
        ),
    ],
)
def test_a_bound_that_is_passed_is_told_with_its_numbers(
    policy: dict[str, object], reason: str
) -> None:
    (finding,) = judge(facts(), IntakeConfig.model_validate(policy)).findings
    assert finding.reason == reason


@pytest.mark.parametrize(
    "policy",
    [
        {"stop_above_share": 0.1},
        {"max_age_hours": 12},
        {"min_rows": 40, "max_rows": 60},
        {"min_median_share": 0.5, "max_median_share": 0.5},
    ],
)
def test_a_bound_that_is_just_kept_passes(policy: dict[str, object]) -> None:
    assert judge(facts(), IntakeConfig.model_validate(policy)).action == "pass"


@pytest.mark.parametrize(
    ("policy", "action"),
    [
        ({"stop_above_share": 0.0}, "stop"),
        ({"max_age_hours": 1}, "warn"),
        ({"max_age_hours": 1, "stale": "stop"}, "stop"),
        ({"min_rows": 50}, "warn"),
        ({"min_rows": 50, "volume": "stop"}, "stop"),
        ({"min_rows": 50, "volume": "stop", "stale": "warn", "max_age_hours": 1}, "stop"),
        ({"min_rows": 50, "stale": "stop", "max_age_hours": 1}, "stop"),
    ],
)
def test_each_finding_warns_or_stops_as_the_policy_says(
    policy: dict[str, object], action: str
) -> None:
    read = IntakeConfig.model_validate(policy)
    assert judge(facts(), read).action == action
    assert read.may_stop == (action == "stop")


def test_an_ingest_of_nothing_is_judged_by_freshness_alone() -> None:
    policy = IntakeConfig(
        stop_above_share=0, min_rows=1, volume="stop", min_median_share=1, max_age_hours=1
    )
    nothing = facts(num_in=0, num_quarantined=0, rows={}, age_hours=None, newest=None)
    (finding,) = judge(nothing, policy).findings
    assert finding.about == "freshness"
    assert finding.reason.startswith("no row is known at all")


def test_a_delivery_without_a_row_breaks_a_lower_bound() -> None:
    verdict = judge(facts(rows={"empty.csv": 0}), IntakeConfig(min_rows=1))
    assert "delivery empty.csv has 0 rows" in verdict.findings[0].reason


def test_of_many_deliveries_a_few_are_named_and_the_rest_counted() -> None:
    verdict = judge(facts(rows={f"{i}.csv": i for i in range(300)}), IntakeConfig(min_rows=200))
    assert len(verdict.findings) == 6
    assert verdict.findings[-1].reason == "so it is with 195 other deliveries"


def test_without_enough_earlier_ingests_there_is_no_median_to_keep() -> None:
    policy = IntakeConfig(min_median_share=0.9, max_median_share=1.1)
    assert judge(facts(median=None), policy).action == "pass"


def test_what_stops_an_ingest_says_why_where_and_what_to_do() -> None:
    findings = (
        Finding(about="volume", response="stop", reason="too few"),
        Finding(about="freshness", response="warn", reason="too old"),
    )
    said = str(IngestStopped(Verdict(action="stop", findings=findings), Path("r.json")))
    assert said == (
        "the ingest stops, nothing was brought in: too few; see r.json; "
        "mend the source, or change the bound in intake, and run it again"
    )


def test_bounds_that_leave_no_room_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"intake\.min_rows 5 is over intake\.max_rows 4"):
        IntakeConfig(min_rows=5, max_rows=4)

import io
from datetime import UTC, datetime

from rich.console import Console

from app.config import Config
from app.console.narration import Narrator, decision_line
from app.console.replay import Tally
from app.console.status import DecisionStatus, Status
from app.contracts.records import Roles

NOW = datetime(2013, 5, 17, 11, tzinfo=UTC)
DECISION = DecisionStatus(
    key="flights-0001-retrain",
    at=NOW,
    action="retrain",
    cause="concept_drift",
    reasons=("AUC 0.658 is 0.076 under its reference",),
    outcome="done",
)


def status(*decisions: DecisionStatus) -> Status:
    return Status(
        model="flights",
        now=NOW,
        watermark=NOW,
        roles=Roles(model="flights", generation=2),
        steward_doing="training",
        decisions=decisions,
    )


def told(flights: Config, *statuses: Status) -> str:
    console = Console(record=True, width=200, force_terminal=False, file=io.StringIO())
    with Narrator(flights, console) as narrator:
        for each in statuses:
            narrator.show(NOW, Tally(rows=31_422, requests=126, failed=1), each)
    return console.export_text()


def test_a_line_says_the_day_the_traffic_the_failures_and_what_the_loop_does(
    flights: Config,
) -> None:
    text = told(flights, status())
    assert "2013-05-17  31,422 rows in 126 requests, 1 failed" in text
    assert "observe: training" in text


def test_a_decision_is_told_once_when_it_is_completed(flights: Config) -> None:
    under_way = status(DECISION.model_copy(update={"outcome": "under way"}))
    text = told(flights, under_way, status(DECISION), status(DECISION))
    assert text.count("AUC 0.658 is 0.076 under its reference") == 1


def test_a_decision_names_its_cause_and_its_outcome() -> None:
    line = decision_line(DECISION).plain
    assert line.startswith("2013-05-17  retrain (concept_drift): AUC")
    assert line.endswith("→ done")

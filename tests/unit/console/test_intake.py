import io
from datetime import UTC, datetime

from rich.console import Console

from app.console.intake import IngestBar, IngestTeller, sentence
from app.data.ingestion import (
    LISTED,
    DeliveryCount,
    Progress,
    RefusedFile,
    Versions,
    together,
    total,
)

NOON = datetime(2024, 4, 1, 12, tzinfo=UTC)
VERSIONS = Versions(1, 2, 3)


def count(number: int = 0, *, labels: bool = False, rewritten: bool = False) -> DeliveryCount:
    return DeliveryCount(
        name=f"{number}.csv",
        digest=str(number),
        table="labels" if labels else "events",
        num_in=10,
        num_accepted=7,
        num_quarantined=3,
        rewritten=rewritten,
    )


def test_an_ingest_is_told_in_one_line() -> None:
    result = total([count(rewritten=True), count(labels=True)], VERSIONS, ["b.csv"])
    assert sentence(result) == (
        "10 rows = 7 accepted + 3 quarantined; 10 outcomes = 7 accepted + 3 quarantined; "
        "1 rewritten; 1 still being written"
    )


def test_a_follower_tells_what_came_and_each_refused_file_once() -> None:
    written = io.StringIO()
    teller = IngestTeller(Console(file=written, width=40))
    refused = [RefusedFile(name="b.csv", problem="b.csv: the file is empty")]
    for result in (total([count()], VERSIONS, [], refused), total([], VERSIONS, [], refused)):
        teller.tell(result, NOON)
    assert written.getvalue().splitlines() == [
        "12:00:00 10 rows = 7 accepted + 3 quarantined",
        "12:00:00 refused: b.csv: the file is empty",
    ]


def test_a_look_that_comes_to_nothing_is_told_once_until_another_goes_well() -> None:
    written = io.StringIO()
    teller = IngestTeller(Console(file=written, width=40))
    for _ in range(3):
        teller.complain("the store is away", NOON)
    teller.tell(total([], VERSIONS), NOON)
    teller.complain("the store is away", NOON)
    assert written.getvalue() == "12:00:00 the store is away; looking again\n" * 2


def test_a_bar_is_drawn_on_a_terminal_and_nowhere_else() -> None:
    for terminal in (True, False):
        written = io.StringIO()
        with IngestBar(Console(file=written, force_terminal=terminal, width=100)) as bar:
            bar.show(Progress(2, 5, 1234))
            bar._bar.refresh()
        assert ("2/5" in written.getvalue()) == terminal
        assert ("1,234 rows" in written.getvalue()) == terminal


def test_ingests_add_up_and_the_list_stays_bounded() -> None:
    in_all = None
    for number in range(3 * LISTED):
        in_all = together(in_all, total([count(number)], VERSIONS))
    assert in_all is not None
    assert (in_all.num_deliveries, in_all.num_in) == (3 * LISTED, 30 * LISTED)
    assert in_all.num_in == in_all.num_accepted + in_all.num_quarantined
    assert [each.digest for each in in_all.deliveries] == [
        str(n) for n in range(2 * LISTED, 3 * LISTED)
    ]
    assert in_all.events_version == 1

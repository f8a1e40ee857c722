from datetime import UTC, datetime, timedelta
from itertools import permutations
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.rows import TIMESTAMP
from app.data.labels import KNOWN_LABELS, known_labels
from tests.unit.data.oracles import (
    Report,
    at,
    in_pieces,
    known_then,
    random_reports,
    table_of_reports,
)

NOON = datetime(2024, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
Revision = tuple[str, int | None, bool, datetime, datetime]


def log(*revisions: Revision) -> pa.Table:
    names = ("row_id", "label", "void", "known_at", "received_at")
    kinds = (pa.string(), pa.int8(), pa.bool_(), TIMESTAMP, TIMESTAMP)
    columns = [pa.array([r[i] for r in revisions], kind) for i, kind in enumerate(kinds)]
    return pa.table(columns, names=names)


def test_an_outcome_is_unknown_until_it_is_known() -> None:
    table = log(("P0", 1, False, NOON, NOON))
    assert known_labels(table, NOON - HOUR).num_rows == 0
    assert known_labels(table, NOON).num_rows == 1


def test_the_revision_known_last_wins_and_earlier_times_still_see_the_first() -> None:
    table = log(("P0", 1, False, NOON + HOUR, NOON), ("P0", 0, False, NOON, NOON + 9 * HOUR))
    assert known_labels(table, NOON)["label"].to_pylist() == [0]
    assert known_labels(table, NOON + HOUR)["label"].to_pylist() == [1]


def test_of_revisions_known_at_once_the_one_received_last_wins() -> None:
    table = log(("P0", 1, False, NOON, NOON + HOUR), ("P0", 0, False, NOON, NOON))
    assert known_labels(table, NOON)["label"].to_pylist() == [1]


def test_an_outcome_can_become_void() -> None:
    table = log(("P0", 1, False, NOON, NOON), ("P0", None, True, NOON + HOUR, NOON + HOUR))
    (known,) = known_labels(table, NOON + HOUR).to_pylist()
    assert known["void"]
    assert known["label"] is None


def test_contradictions_are_settled_the_same_in_every_order() -> None:
    revisions: list[Revision] = [
        ("P0", 1, False, NOON, NOON),
        ("P0", None, True, NOON, NOON),
        ("P0", 0, False, NOON, NOON),
        ("P1", 0, False, NOON, NOON),
        ("P1", 1, False, NOON, NOON),
    ]
    for order in permutations(revisions):
        known = known_labels(log(*order), NOON).to_pylist()
        assert [(row["row_id"], row["label"], row["void"]) for row in known] == [
            ("P0", None, True),
            ("P1", 1, False),
        ]


@pytest.mark.parametrize("moment", [NOON, NOON - HOUR])
def test_no_outcomes_are_an_empty_answer_with_a_schema(moment: datetime) -> None:
    assert known_labels(log(), moment).schema.equals(KNOWN_LABELS)
    assert known_labels(log(), moment, moment).schema.equals(KNOWN_LABELS)


def test_what_the_world_knew_is_not_known_to_us_before_it_arrived() -> None:
    table = log(("P0", 1, False, NOON, NOON + 9 * HOUR))
    assert known_labels(table, NOON).num_rows == 1
    assert known_labels(table, NOON, received_by=NOON + 8 * HOUR).num_rows == 0
    assert known_labels(table, NOON, received_by=NOON + 9 * HOUR).num_rows == 1


def test_a_revision_that_has_not_arrived_leaves_the_one_before_standing() -> None:
    table = log(("P0", 1, False, NOON, NOON), ("P0", 0, False, NOON + HOUR, NOON + 9 * HOUR))
    assert known_labels(table, NOON + 2 * HOUR)["label"].to_pylist() == [0]
    cut = known_labels(table, NOON + 2 * HOUR, received_by=NOON + 2 * HOUR)
    assert cut["label"].to_pylist() == [1]


def test_history_that_is_brought_in_late_is_still_known_when_it_was() -> None:
    table = log(("P0", 1, False, NOON, NOON + 9000 * HOUR))
    assert known_labels(table, NOON)["label"].to_pylist() == [1]


reports_of_rows = st.lists(
    st.builds(
        Report,
        st.sampled_from("abcd"),
        st.sampled_from([0, 1, None]),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    max_size=12,
)
cuts = st.tuples(st.integers(-1, 6), st.one_of(st.none(), st.integers(-1, 6)))
Cut = tuple[int, int | None]


def answer(reports: pa.Table, cut: Cut) -> dict[str, tuple[int | None, bool, int]]:
    known_by, received_by = cut
    arrived = None if received_by is None else at(received_by)
    known = known_labels(reports, at(known_by), arrived)
    assert known["row_id"].to_pylist() == sorted(known["row_id"].to_pylist())
    return {
        row["row_id"]: (row["label"], row["void"], (row["known_at"] - at(0)) // HOUR)
        for row in known.to_pylist()
    }


@pytest.mark.parametrize("num_orders", [500, pytest.param(12_000, marks=pytest.mark.slow)])
def test_known_labels_equal_their_oracle_for_any_arrival_order(num_orders: int) -> None:
    num_known = 0
    for seed in range(num_orders):
        draw = Random(seed)
        reports = random_reports(draw)
        cut = draw.randrange(-1, 7), draw.choice((None, draw.randrange(-1, 7)))
        draw.shuffle(reports)
        found = answer(in_pieces(table_of_reports(reports), draw), cut)
        assert found == known_then(reports, *cut), f"seed {seed}"
        num_known += len(found)
    print(
        f"known labels equalled their oracle in {num_orders:,} arrival orders, {num_known:,} known"
    )
    assert num_known > num_orders


@settings(deadline=None)
@given(reports_of_rows, cuts, st.randoms())
def test_neither_order_nor_repetition_of_reports_changes_what_is_known(
    reports: list[Report], cut: Cut, random: Random
) -> None:
    mixed = reports + random.sample(reports, len(reports) // 2)
    random.shuffle(mixed)
    assert answer(table_of_reports(reports), cut) == answer(table_of_reports(mixed), cut)


@settings(deadline=None)
@given(reports_of_rows, st.integers(-1, 5), st.booleans())
def test_what_was_known_may_be_revised_later_but_is_never_forgotten(
    reports: list[Report], moment: int, arrival: bool
) -> None:
    table = table_of_reports(reports)
    earlier = answer(table, (moment, moment if arrival else None))
    later = answer(table, (moment + 1, moment + 1 if arrival else None))
    assert earlier.keys() <= later.keys()
    assert all(later[row][2] >= since for row, (_, _, since) in earlier.items())


@settings(deadline=None)
@given(reports_of_rows, reports_of_rows, st.integers(-1, 6))
def test_what_arrives_later_never_changes_what_we_knew(
    reports: list[Report], later: list[Report], moment: int
) -> None:
    after = [report._replace(received_at=moment + 1 + report.received_at) for report in later]
    cut = moment, moment
    assert answer(table_of_reports(reports), cut) == answer(table_of_reports(reports + after), cut)

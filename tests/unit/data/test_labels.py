from datetime import UTC, datetime, timedelta
from itertools import permutations

import pyarrow as pa
import pytest

from app.contracts.rows import TIMESTAMP
from app.data.labels import KNOWN_LABELS, known_labels

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


@pytest.mark.parametrize("at", [NOON, NOON - HOUR])
def test_no_outcomes_are_an_empty_answer_with_a_schema(at: datetime) -> None:
    assert known_labels(log(), at).schema.equals(KNOWN_LABELS)

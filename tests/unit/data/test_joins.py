from collections.abc import Callable
from datetime import date, timedelta
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.rows import TIMESTAMP
from app.data.joins import ABSENT, FactColumns, latest_facts, point_in_time_join
from tests.unit.data.oracles import (
    Fact,
    Question,
    at,
    in_pieces,
    random_facts,
    random_questions,
    table_of_facts,
    table_of_questions,
    told_then,
)

ARRIVED = FactColumns(received_at="received_at")
VALUES = ("number", "word")

facts_of_three = st.lists(
    st.builds(
        Fact,
        st.sampled_from("xyz"),
        st.integers(0, 4),
        st.integers(0, 5),
        st.integers(0, 6),
        st.sampled_from([-2.5, 0.0, 3.5, None]),
        st.sampled_from(["left", "right", None]),
    ),
    max_size=15,
)
questions = st.lists(
    st.builds(Question, st.sampled_from(["x", "y", "nobody", None]), st.integers(0, 7)), max_size=6
)


def join(rows: pa.Table, facts: pa.Table, arrival: bool, max_age: int | None = None) -> pa.Table:
    return point_in_time_join(
        rows,
        facts,
        entity="who",
        as_of="asked_at",
        columns=ARRIVED if arrival else FactColumns(),
        max_age=None if max_age is None else timedelta(hours=max_age),
    )


def told(answer: pa.Table) -> list[tuple[object, ...]]:
    names = ("event_time", *VALUES)
    return list(zip(*(answer[name].to_pylist() for name in names), strict=True))


def told_by_oracle(
    asked: list[Question], facts: list[Fact], arrival: bool, max_age: int | None = None
) -> list[tuple[object, ...]]:
    found = [told_then(each, facts, arrival=arrival, max_age=max_age) for each in asked]
    return [
        (None, None, None) if fact is None else (at(fact.event_time), fact.number, fact.word)
        for fact in found
    ]


@pytest.mark.parametrize("num_orders", [500, pytest.param(12_000, marks=pytest.mark.slow)])
def test_the_join_equals_its_oracle_for_any_arrival_order(num_orders: int) -> None:
    num_told = 0
    for seed in range(num_orders):
        draw = Random(seed)
        facts, asked = random_facts(draw), random_questions(draw)
        arrival, max_age = draw.random() < 0.5, draw.choice((None, None, 0, 2))
        draw.shuffle(facts)
        table = in_pieces(table_of_facts(facts), draw)
        answer = told(join(table_of_questions(asked), table, arrival, max_age))
        assert answer == told_by_oracle(asked, facts, arrival, max_age), f"seed {seed}"
        num_told += sum(each[0] is not None for each in answer)
    print(f"the join equalled its oracle in {num_orders:,} arrival orders, {num_told:,} facts told")
    assert num_told > num_orders / 2


@settings(deadline=None)
@given(facts_of_three, questions, st.booleans(), st.randoms())
def test_neither_order_nor_repetition_of_facts_changes_the_join(
    facts: list[Fact], asked: list[Question], arrival: bool, random: Random
) -> None:
    rows = table_of_questions(asked)
    mixed = facts + random.sample(facts, len(facts) // 2)
    random.shuffle(mixed)
    once, again = (told(join(rows, table_of_facts(each), arrival)) for each in (facts, mixed))
    assert once == again


@settings(deadline=None)
@given(facts_of_three, facts_of_three, questions)
def test_what_comes_later_never_changes_what_a_row_was_told(
    facts: list[Fact], later: list[Fact], asked: list[Question]
) -> None:
    rows = table_of_questions(asked)
    after = [fact._replace(received_at=fact.received_at + 8) for fact in later]
    before, now = (told(join(rows, table_of_facts(each), True)) for each in (facts, facts + after))
    assert before == now


@settings(deadline=None)
@given(facts_of_three)
def test_a_later_row_is_never_told_of_an_earlier_event(facts: list[Fact]) -> None:
    asked = [Question("x", hour) for hour in range(8)]
    events = [
        each[0] for each in told(join(table_of_questions(asked), table_of_facts(facts), True))
    ]
    known = [event for event in events if event is not None]
    assert known == sorted(known)
    assert None not in events[len(events) - len(known) :]


def fact(event: int, known: int, number: float | None, entity: str = "x") -> Fact:
    return Fact(entity, event, known, known, number, None)


def numbers(facts: list[Fact], *asked: Question) -> list[float | None]:
    answer: list[float | None] = join(table_of_questions(asked), table_of_facts(facts), False)[
        "number"
    ].to_pylist()
    return answer


def test_a_row_is_told_what_was_known_then_and_not_what_was_learned_later() -> None:
    facts = [fact(1, 1, 10.0), fact(3, 6, 30.0), fact(1, 4, 11.0)]
    asked = [Question("x", hour) for hour in (0, 1, 3, 4, 6)]
    assert numbers(facts, *asked) == [None, 10.0, 10.0, 11.0, 30.0]


def test_a_revision_of_an_older_event_does_not_hide_a_newer_one() -> None:
    assert numbers([fact(2, 2, 20.0), fact(1, 5, 11.0)], Question("x", 6)) == [20.0]


def test_a_withdrawn_event_is_told_as_nulls() -> None:
    assert numbers([fact(1, 1, 10.0), fact(2, 2, 20.0), fact(2, 3, None)], Question("x", 4)) == [
        None
    ]


def test_an_arrival_after_the_row_is_withheld_only_where_arrivals_are_asked_for() -> None:
    late = Fact("x", 1, 1, 5, 10.0, None)
    rows = table_of_questions([Question("x", 3)])
    assert join(rows, table_of_facts([late]), arrival=False)["number"].to_pylist() == [10.0]
    assert join(rows, table_of_facts([late]), arrival=True)["number"].to_pylist() == [None]


def test_rows_are_kept_whole_in_order_with_their_other_columns() -> None:
    rows = table_of_questions([Question("y", 3), Question("x", 2), Question("y", 0)])
    rows = rows.append_column("tag", pa.array([7, 8, 9]))
    answer = join(rows, table_of_facts([fact(1, 1, 10.0), fact(1, 1, 20.0, "y")]), True)
    assert answer.select(rows.column_names).equals(rows)
    assert answer["number"].to_pylist() == [20.0, 10.0, None]
    assert answer.column_names == [*rows.column_names, "event_time", *VALUES]


@pytest.mark.parametrize("names", [[1, 2], [b"1", b"2"], [date(2024, 1, 1), date(2024, 1, 2)]])
def test_entities_may_be_of_any_plain_type(names: list[object]) -> None:
    facts = table_of_facts([fact(1, 1, 10.0), fact(1, 1, 20.0)])
    facts = facts.set_column(0, "entity", pa.array(names))
    rows = table_of_questions([Question(None, 2)] * 3)
    rows = rows.set_column(0, "who", pa.array([names[1], None, names[0]]))
    assert join(rows, facts, False)["number"].to_pylist() == [20.0, None, 10.0]


@pytest.mark.parametrize(
    ("kind", "least", "greatest"),
    [
        (pa.float32(), -0.0, 0.0),
        (pa.float64(), 1.0, float("nan")),
        (pa.uint64(), 1, 2**64 - 1),
        (pa.bool_(), False, True),
        (TIMESTAMP, at(1), at(2)),
        (pa.string(), "a", "b"),
    ],
)
def test_contradictions_of_every_plain_type_are_settled_the_same_in_every_order(
    kind: pa.DataType, least: object, greatest: object
) -> None:
    rows = table_of_questions([Question("x", 4)])
    for values in ([least, greatest, None], [greatest, None, least], [None, least, greatest]):
        facts = table_of_facts([fact(1, 1, 0.0)] * 3).select(["entity", "event_time", "known_at"])
        facts = facts.append_column("value", pa.array(values, kind))
        (answer,) = join(rows, facts, False)["value"].to_pylist()
        assert repr(answer) == repr(pa.scalar(greatest, kind).as_py())


def test_contradictions_without_an_order_are_refused() -> None:
    facts = table_of_facts([fact(1, 1, 0.0)] * 2).select(["entity", "event_time", "known_at"])
    facts = facts.append_column("value", pa.array([[1], [2]]))
    with pytest.raises(ValueError, match=r"value of type list.*keep one of them"):
        join(table_of_questions([Question("x", 4)]), facts, False)


def test_nothing_to_ask_and_nothing_known_are_empty_answers() -> None:
    some = table_of_facts([fact(1, 1, 10.0)])
    assert join(table_of_questions([]), some, True).num_rows == 0
    rows = table_of_questions([Question("x", 2)])
    assert join(rows, some.slice(0, 0), True)["number"].to_pylist() == [None]
    places = latest_facts(rows, some.slice(0, 0), entity="who", as_of="asked_at")
    assert places.tolist() == [ABSENT]


@pytest.mark.parametrize(
    ("rows", "facts", "says"),
    [
        (lambda t: t.drop_columns("who"), lambda t: t, "rows have no column who"),
        (lambda t: t, lambda t: t.drop_columns("known_at"), "facts have no column known_at"),
        (
            lambda t: t,
            lambda t: t.set_column(0, "entity", pa.nulls(1, pa.string())),
            "1 facts have no entity; leave them out",
        ),
        (
            lambda t: t.append_column("number", pa.array([1])),
            lambda t: t,
            "columns number are in rows and in facts",
        ),
        (
            lambda t: t.set_column(0, "who", pa.array([1])),
            lambda t: t,
            "entities are int64 in rows and string in facts",
        ),
    ],
)
def test_a_join_that_makes_no_sense_is_refused(
    rows: Callable[[pa.Table], pa.Table], facts: Callable[[pa.Table], pa.Table], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        join(
            rows(table_of_questions([Question("x", 2)])),
            facts(table_of_facts([fact(1, 1, 10.0)])),
            False,
        )


def test_a_large_join_agrees_with_a_search_entity_by_entity() -> None:
    draw = np.random.default_rng(3)
    num_facts, num_rows = 30_000, 5_000
    hours = draw.integers(0, 2_000, (2, num_facts))
    facts = pa.table(
        {
            "entity": draw.integers(0, 300, num_facts),
            "event_time": pa.array(hours[0] * 3_600_000_000, TIMESTAMP),
            "known_at": pa.array((hours[0] + hours[1] // 10) * 3_600_000_000, TIMESTAMP),
            "place": np.arange(num_facts),
        }
    )
    asked = draw.integers(0, 2_200, num_rows)
    rows = pa.table(
        {
            "who": draw.integers(0, 310, num_rows),
            "asked_at": pa.array(asked * 3_600_000_000, TIMESTAMP),
        }
    )
    answer = join(rows, facts, False)["place"].to_numpy(zero_copy_only=False)
    entity, event, known = facts["entity"].to_numpy(), hours[0], hours[0] + hours[1] // 10
    for row, (who, hour) in enumerate(zip(rows["who"].to_pylist(), asked.tolist(), strict=True)):
        seen = np.flatnonzero((entity == who) & (event <= hour) & (known <= hour))
        if not len(seen):
            assert np.isnan(answer[row])
            continue
        best = seen[np.lexsort((seen, known[seen], event[seen]))[-1]]
        assert answer[row] == best

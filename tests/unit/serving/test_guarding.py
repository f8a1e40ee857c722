"""Checked rows and the guard: every row is answered or quarantined, and the log keeps what came."""

from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts.rows import Contract
from app.data.validation import Validated, validate_rows
from app.sections import GuardConfig
from app.serving.guarding import guard_checked
from app.serving.guards import GuardPlan
from tests.unit.serving.test_guards import AT, CONTRACT, ENCODER, PROFILE

Rows = list[dict[str, Any]]


def row(number: int, **values: Any) -> dict[str, Any]:
    usual = {"age": 40.0, "at": AT.isoformat(), "dish": "soup", "size": "s", "price": 10.0}
    return {"id": f"r{number}", **usual, "one": 7.0, "void": None, **values}


def checked(rows: Rows) -> Validated:
    return validate_rows(rows, CONTRACT)


def guard(rows: Rows, **policies: Any) -> Any:
    plan = GuardPlan(CONTRACT, ENCODER, PROFILE, GuardConfig(**policies))
    return guard_checked(plan, checked(rows), CONTRACT, None)


ROWS = [
    row(0),
    row(1, age="old"),
    row(2, dish="pie"),
    row(3, age=70.0),
    row(4, age=70.0, dish="pie"),
    row(5, age=19.0),
]


def test_rows_that_are_flagged_are_all_accepted() -> None:
    guarded = guard(ROWS, range="flag", unseen="flag")

    assert guarded.checked.accepted["id"].to_pylist() == ["r0", "r2", "r3", "r4", "r5"]
    assert {place: len(found) for place, found in guarded.flags.items()} == {1: 1, 2: 1, 3: 2, 4: 1}
    assert (guarded.clipped, guarded.num_refused) == ({}, 0)


def test_rows_about_which_the_model_is_silent_are_quarantined_with_the_reason() -> None:
    guarded = guard(ROWS, range="flag", unseen="abstain")

    assert guarded.checked.accepted["id"].to_pylist() == ["r0", "r3", "r5"]
    assert guarded.checked.positions.tolist() == [0, 3, 5]
    assert list(guarded.flags) == [1, 2]
    quarantined = guarded.checked.quarantined
    assert quarantined["position"].to_pylist() == [1, 2, 4]
    assert quarantined["reasons"].to_pylist()[1:] == [
        ["dish is not among the values that the model knows"],
        [
            "age is over the greatest value of training",
            "dish is not among the values that the model knows",
        ],
    ]
    assert orjson.loads(quarantined["row"][1].as_py())["dish"] == "pie"


def test_the_model_is_given_clipped_columns_and_the_log_what_came() -> None:
    guarded = guard(ROWS, range="clip", unseen="abstain")
    more = guarded.checked.accepted.append_column("window", pa.array([1.0, 2.0, 3.0]))

    assert guarded.checked.accepted["age"].to_pylist() == [40.0, 70.0, 19.0]
    seen = guarded.for_model(more)
    assert seen["age"].to_pylist() == [40.0, 60.0, 20.0]
    assert seen.schema.names == more.schema.names
    assert seen.drop_columns("age").equals(more.drop_columns("age"))


def test_one_refused_row_refuses_the_request_and_only_odd_rows_are_quarantined() -> None:
    guarded = guard(ROWS, range="refuse", unseen="flag")

    assert guarded.checked.accepted.num_rows == 0
    assert guarded.num_refused == 3
    assert guarded.checked.quarantined["position"].to_pylist() == [1, 3, 4, 5]
    assert (guarded.flags, guarded.clipped) == ({}, {})


def test_where_nothing_is_odd_the_rows_are_the_same_object() -> None:
    given_rows = checked([row(0)])
    plan = GuardPlan(CONTRACT, ENCODER, PROFILE, GuardConfig(range="refuse"))
    assert guard_checked(plan, given_rows, CONTRACT, None).checked is given_rows


def test_a_quarantined_row_holds_no_personal_value() -> None:
    contract = Contract.model_validate(
        CONTRACT.model_dump() | {"entity": "id"}
        | {"columns": [c.model_dump() | ({"privacy": "personal"} if c.name == "id" else {})
                       for c in CONTRACT.columns]}
    )  # fmt: skip
    plan = GuardPlan(contract, ENCODER, PROFILE, GuardConfig(range="abstain"))
    guarded = guard_checked(plan, checked([row(7, age=90.0)]), contract, None)
    assert orjson.loads(guarded.checked.quarantined["row"][0].as_py())["id"] == "[withheld]"


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "age": st.sampled_from([40.0, 70.0, 500.0, None, "old"]),
                "dish": st.sampled_from(["soup", "pie", None]),
            }
        ),
        max_size=8,
    ),
    policies=st.tuples(
        st.sampled_from(["off", "flag", "clip", "abstain"]),
        st.sampled_from(["off", "flag", "clip", "abstain"]),
        st.sampled_from(["off", "flag", "abstain"]),
    ),
)
def test_what_comes_in_is_accepted_or_quarantined(rows: Rows, policies: tuple[Any, ...]) -> None:
    sent = [row(i, **values) for i, values in enumerate(rows)]
    names = ("range", "outlier", "unseen")

    guarded = guard(sent, **dict(zip(names, policies, strict=True)))

    accepted = guarded.checked.positions.tolist()
    quarantined = guarded.checked.quarantined["position"].to_pylist()
    assert sorted([*accepted, *quarantined]) == list(range(len(sent)))
    assert quarantined == sorted(quarantined)
    assert guarded.checked.accepted["id"].to_pylist() == [f"r{i}" for i in accepted]
    for place, findings in guarded.flags.items():
        assert {finding.policy for finding in findings} <= {"flag", "clip"}
        assert 0 <= place < len(accepted)


@pytest.mark.parametrize("policies", [{}, {"range": "flag"}])
def test_an_empty_table_has_nothing_odd(policies: dict[str, Any]) -> None:
    assert guard([], **policies).checked.accepted.num_rows == 0

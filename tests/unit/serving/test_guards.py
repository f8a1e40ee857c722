"""What is odd about acceptable rows: found by column, told without a value, done as configured."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.config import Config
from app.contracts.rows import Column, Contract
from app.data.features import Encoder, Statistics
from app.data.profile import Profile
from app.sections import FeaturesConfig, GuardConfig
from app.serving.guards import NOTHING, GuardPlan, Plans
from tests.serving_world import make_bundle, make_table

CONTRACT = Contract(
    id="id",
    event_time="at",
    label="late",
    columns=(
        Column(name="id", kind="identifier"),
        Column(name="age", kind="number", nullable=True, privacy="quasi"),
        Column(name="at", kind="time"),
        Column(name="dish", kind="category", nullable=True),
        Column(name="size", kind="category", categories=("s", "m", "l")),
        Column(name="price", kind="number"),
        Column(name="one", kind="number"),
        Column(name="void", kind="number", nullable=True),
    ),
)
AT = datetime(2024, 3, 2, 12, tzinfo=UTC)
FLAG = GuardConfig(range="flag", outlier="flag", unseen="flag")
NUM_ROWS = 400


def training() -> pa.Table:
    """Ages 20 to 60, evenly; prices nearly all 10, up to 30; one constant; one empty column."""
    chance = np.random.default_rng(5)
    ages = np.linspace(20.0, 60.0, NUM_ROWS)
    prices = np.where(np.arange(NUM_ROWS) < 4, 30.0, 10.0)
    columns = {
        "id": [f"r{i}" for i in range(NUM_ROWS)],
        "age": chance.permutation(ages),
        "at": [AT] * NUM_ROWS,
        "dish": chance.choice(["soup", "stew"], NUM_ROWS),
        "size": ["s", "m"] * (NUM_ROWS // 2),
        "price": chance.permutation(prices),
        "one": [7.0] * NUM_ROWS,
        "void": [None] * NUM_ROWS,
    }
    return pa.table(
        {c.name: pa.array(columns[c.name], c.arrow_type) for c in CONTRACT.columns}, CONTRACT.schema
    )


ENCODER = Encoder.fit(Statistics.collect(training(), CONTRACT), FeaturesConfig())
PROFILE = Profile.for_encoder(ENCODER).add(training())


def plan(config: GuardConfig = FLAG, profile: Profile = PROFILE) -> GuardPlan:
    return GuardPlan(CONTRACT, ENCODER, profile, config)


def row(**values: Any) -> list[object]:
    usual = {
        "id": "a", "age": 40.0, "at": AT, "dish": "soup", "size": "s", "price": 10.0, "one": 7.0,
        "void": None,
    }  # fmt: skip
    return list((usual | values).values())


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"age": 20.0},
        {"age": 60.0},
        {"age": None},
        {"age": float("nan")},
        {"dish": None},
        {"size": "l"},
        {"void": 5.0},
        {"id": "never seen"},
    ],
)
def test_a_row_like_those_of_training_has_nothing_odd(values: dict[str, Any]) -> None:
    assert plan().inspect(row(**values)) is NOTHING


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        ({"age": 19.9}, "range", "age is under the least value of training"),
        ({"age": 60.1}, "range", "age is over the greatest value of training"),
        # The middle half of the ages is 20 years wide: three of them below 20 is -40.
        ({"age": -39.0}, "range", "age is under the least value of training"),
        ({"age": -41.0}, "outlier", "age is far under the least value of training"),
        ({"age": 121.0}, "outlier", "age is far over the greatest value of training"),
        # One bin holds all prices: its middle half is 10 wide, however they lie within it.
        ({"price": 59.0}, "range", "price is over the greatest value of training"),
        ({"price": 61.0}, "outlier", "price is far over the greatest value of training"),
        # Nothing tells how far from a constant is far.
        ({"one": 1e9}, "range", "one is over the greatest value of training"),
        ({"dish": "pie"}, "unseen", "dish is not among the values that the model knows"),
        ({"dish": ""}, "unseen", "dish is not among the values that the model knows"),
    ],
)
def test_what_is_odd_is_told_by_its_column_and_without_its_value(
    values: dict[str, Any], kind: str, reason: str
) -> None:
    (finding,) = plan().inspect(row(**values))
    assert (finding.kind, finding.reason, finding.policy) == (kind, reason, "flag")


def test_everything_odd_of_a_row_is_told() -> None:
    found = plan().inspect(row(age=0.0, dish="pie", price=1e6))
    assert {(f.column, f.kind) for f in found} == {
        ("age", "range"),
        ("price", "outlier"),
        ("dish", "unseen"),
    }


def test_by_default_nothing_is_looked_for() -> None:
    idle = plan(GuardConfig())
    assert idle.is_idle
    assert idle.inspect(row(age=-1e9, dish="pie")) is NOTHING
    assert not plan().is_idle


def test_each_kind_goes_by_its_own_policy() -> None:
    only_far = plan(GuardConfig(outlier="refuse"))
    assert only_far.inspect(row(age=0.0)) is NOTHING
    assert [f.policy for f in only_far.inspect(row(age=-1000.0))] == ["refuse"]
    only_range = plan(GuardConfig(range="clip"))
    assert [f.kind for f in only_range.inspect(row(age=-1000.0, dish="pie"))] == ["range"]
    with pytest.raises(ValidationError):
        GuardConfig.model_validate({"unseen": "clip"})


def test_without_counts_nothing_is_far_and_the_range_still_holds() -> None:
    empty = Profile.for_encoder(ENCODER)
    assert plan(GuardConfig(outlier="refuse"), empty).is_idle
    (finding,) = plan(FLAG, empty).inspect(row(age=-1e9))
    assert finding.kind == "range"


def test_rows_are_sorted_by_what_their_policies_say() -> None:
    config = GuardConfig(range="clip", outlier="refuse", unseen="abstain")
    rows = [row(), row(age=70.0), row(dish="pie", age=70.0), row(age=500.0, dish="pie")]

    guarded = plan(config).judge(rows)

    assert guarded.rows[1] == row(age=60.0)
    assert [guarded.rows[i] for i in (0, 2, 3)] == [rows[i] for i in (0, 2, 3)]
    assert rows[1] == row(age=70.0), "what came in is what is logged"
    assert [f.reason for f in guarded.flags[1]] == ["age is over the greatest value of training"]
    assert guarded.abstained == {
        2: [
            "age is over the greatest value of training",
            "dish is not among the values that the model knows",
        ]
    }
    assert list(guarded.refused) == [3]
    assert set(guarded.flags) == {1}


def test_only_columns_whose_policy_is_to_clip_are_clipped() -> None:
    config = GuardConfig(range="clip", outlier="flag")
    guarded = plan(config).judge([row(age=-500.0, price=31.0)])
    assert guarded.rows == [row(age=-500.0, price=30.0)]


VALUES = st.fixed_dictionaries(
    {
        "age": st.none() | st.floats(-200, 200) | st.sampled_from([20.0, 60.0, -40.0, 120.0]),
        "dish": st.none() | st.sampled_from(["soup", "stew", "pie", ""]),
        "price": st.floats(-1e300, 1e300),
        "one": st.sampled_from([7.0, np.nextafter(7.0, 8.0), 6.0]),
    }
)


@given(
    rows=st.lists(VALUES, max_size=8),
    policies=st.tuples(*[st.sampled_from(["off", "flag", "refuse"])] * 3),
    dictionary=st.booleans(),
)
def test_a_table_is_found_odd_exactly_where_its_rows_are(
    rows: list[dict[str, Any]], policies: tuple[Any, ...], dictionary: bool
) -> None:
    config = GuardConfig(range=policies[0], outlier=policies[1], unseen=policies[2])
    values = [row(**given) for given in rows]
    columns = list(zip(*values, strict=True)) or [()] * len(CONTRACT.columns)
    arrays = {
        c.name: pa.array(cells, c.arrow_type)
        for c, cells in zip(CONTRACT.columns, columns, strict=True)
    }
    if dictionary:
        arrays["dish"] = arrays["dish"].dictionary_encode()

    found = plan(config).inspect_table(pa.table(arrays))

    each = {i: plan(config).inspect(value) for i, value in enumerate(values)}
    assert found == {i: findings for i, findings in each.items() if findings}


def test_a_clipped_row_is_predicted_as_the_one_that_is_logged(flights: Config) -> None:
    """The encoder itself stops at the edges: the log is enough to predict again."""
    contract = flights.contract
    bundle = make_bundle(contract, seed=1)
    table = make_table(contract, 5)
    edges = {number.name: number.edges for number in bundle.encoder.numbers}
    far = pa.array([edges["distance"][-1] * 10] * 5)
    odd = table.set_column(table.schema.get_field_index("distance"), "distance", far)
    guard = GuardPlan(contract, bundle.encoder, bundle.profile, GuardConfig(range="clip"))

    guarded = guard.judge([list(values.values()) for values in odd.to_pylist()])

    clipped = pa.Table.from_pylist(
        [dict(zip(contract.schema.names, r, strict=True)) for r in guarded.rows], contract.schema
    )
    assert clipped["distance"].to_pylist() == [edges["distance"][-1]] * 5
    np.testing.assert_array_equal(bundle.predict(clipped), bundle.predict(odd))


def test_columns_may_come_in_another_order_than_the_version_was_trained_with() -> None:
    columns = tuple(reversed(CONTRACT.columns))
    turned = CONTRACT.model_copy(update={"columns": columns})
    guard = GuardPlan(turned, ENCODER, PROFILE, FLAG)
    (finding,) = guard.inspect(row(age=0.0)[::-1])
    assert finding.column == "age"
    assert guard.inspect(row()[::-1]) is NOTHING


def test_a_version_s_plan_is_made_once_and_only_a_few_are_kept(flights: Config) -> None:
    bundles = {f"v{seed}": make_bundle(flights.contract, seed) for seed in range(5)}
    plans = Plans(flights.contract, FLAG)
    made = {version: plans.of(version, bundle) for version, bundle in bundles.items()}

    assert plans.of("v4", bundles["v4"]) is made["v4"]
    assert plans.of("v0", bundles["v0"]) is not made["v0"]
    assert len(plans._plans) == 3
    assert Plans(flights.contract, GuardConfig()).of("v0", bundles["v0"]) is None

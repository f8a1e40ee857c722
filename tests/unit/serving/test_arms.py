"""Arms: sticky, one way under a ramp, as many as were asked for, honest about the chance."""

from datetime import UTC, datetime, timedelta
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts.shares import Ramp, Shares
from app.serving.arms import Arm, Arms, salt_of

NOON = datetime(2013, 4, 1, 12, tzinfo=UTC)
NUM_ENTITIES = 4000
SALT = salt_of("flights", "challenger")


@st.composite
def any_shares(draw: st.DrawFn) -> Shares:
    challenger = draw(st.floats(0, 1))
    holdout = draw(st.floats(0, 1)) * (1 - challenger)
    return Shares(challenger=challenger, holdout=holdout, exploration=draw(st.floats(0, 1)))


def draws(shares: Shares, salt: bytes = SALT, at: datetime = NOON) -> list[Arm]:
    arms = Arms(salt, shares, at)
    return [arms.of(f"entity-{i}", f"key-{i}") for i in range(NUM_ENTITIES)]


@given(any_shares())
def test_propensities_of_all_arms_sum_to_one(shares: Shares) -> None:
    arms = Arms(SALT, shares, NOON).all

    assert sum(arm.propensity for arm in arms) == pytest.approx(1.0)
    assert all(0 <= arm.propensity <= 1 for arm in arms)


@given(any_shares(), st.text(), st.text())
def test_a_row_has_an_arm_that_has_a_chance(shares: Shares, entity: str, key: str) -> None:
    arms = Arms(SALT, shares, NOON)

    arm = arms.of(entity, key)

    assert arm in arms.all
    assert arm.propensity > 0
    assert arms.of(entity, key) == arm


@given(st.text(), st.lists(st.text(), min_size=2))
def test_an_entity_keeps_its_arm_whatever_its_requests(entity: str, keys: list[str]) -> None:
    arms = Arms(SALT, Shares(challenger=0.4, holdout=0.2), NOON)

    assert len({arms.of(entity, key) for key in keys}) == 1


@pytest.mark.parametrize(
    "shares",
    [
        Shares(challenger=0.1),
        Shares(challenger=0.5, holdout=0.2),
        Shares(challenger=0.3, holdout=0.1, exploration=0.25),
        Shares(holdout=0.5, exploration=1.0),
        Shares(challenger=0.0),
        Shares(challenger=1.0),
    ],
)
def test_each_arm_is_drawn_as_often_as_its_propensity_says(shares: Shares) -> None:
    drawn = draws(shares)

    for arm in Arms(SALT, shares, NOON).all:
        # Five standard deviations of a binomial: one in two million.
        limit = 5 * sqrt(NUM_ENTITIES * arm.propensity * (1 - arm.propensity)) + 1e-9
        assert abs(drawn.count(arm) - NUM_ENTITIES * arm.propensity) <= limit, arm


def test_under_a_ramp_entities_only_ever_join_and_the_holdout_stays() -> None:
    ramp = Ramp(from_share=0.05, began_at=NOON, seconds=600)
    shares = Shares(challenger=0.8, holdout=0.1, ramp=ramp)
    joined: set[int] = set()
    held = {i for i, arm in enumerate(draws(shares)) if arm.name == "holdout"}

    for minute in range(0, 12, 2):
        drawn = draws(shares, at=NOON + timedelta(minutes=minute))
        now = {i for i, arm in enumerate(drawn) if arm.name == "challenger"}
        assert joined <= now
        assert {i for i, arm in enumerate(drawn) if arm.name == "holdout"} == held
        joined = now

    assert len(joined) > 0.7 * NUM_ENTITIES
    assert held


def test_the_propensity_is_that_of_the_moment() -> None:
    shares = Shares(challenger=0.8, ramp=Ramp(began_at=NOON, seconds=100))

    later = {arm.name: arm.propensity for arm in draws(shares, at=NOON + timedelta(seconds=25))}

    assert later == pytest.approx({"challenger": 0.2, "champion": 0.8})


def test_experiments_draw_independently_of_each_other() -> None:
    shares = Shares(challenger=0.5)
    first = draws(shares)
    second = draws(shares, salt_of("flights", "another challenger"))

    both = sum(one.part == two.part == "challenger" for one, two in zip(first, second, strict=True))

    assert abs(both / NUM_ENTITIES - 0.25) < 5 * sqrt(0.25 * 0.75 / NUM_ENTITIES)


def test_exploration_goes_by_request_and_not_by_entity() -> None:
    arms = Arms(SALT, Shares(exploration=0.5), NOON)

    drawn = {arms.of("one entity", f"key-{i}") for i in range(200)}

    assert {(arm.name, arm.part) for arm in drawn} == {
        ("champion", "champion"),
        ("exploration", "champion"),
        ("exploration", "challenger"),
    }


def test_an_arm_that_fell_back_keeps_the_chance_of_its_draw() -> None:
    arm = Arm("challenger", "challenger", 0.3)

    assert arm.fallen_back == Arm("fallback", "champion", 0.3)

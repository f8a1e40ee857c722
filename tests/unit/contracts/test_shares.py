"""Shares of traffic: what fits together, and a ramp that only ever goes one way."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.contracts.records import Roles
from app.contracts.shares import Ramp, Shares

NOON = datetime(2013, 4, 1, 12, tzinfo=UTC)
SHARE = st.floats(0, 1)


@pytest.mark.parametrize(
    "given",
    [
        {"challenger": 0.7, "holdout": 0.4},
        {"challenger": 0.1, "holdout": 0.4, "ramp": Ramp(from_share=0.7, began_at=NOON, seconds=1)},
        {"challenger": 1.1},
        {"exploration": -0.1},
    ],
)
def test_shares_that_do_not_fit_together_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Shares.model_validate(given)


@given(SHARE, SHARE, st.lists(st.floats(-100, 200), min_size=2))
def test_a_ramp_goes_one_way_and_ends_where_it_should(
    begin: float, end: float, seconds: list[float]
) -> None:
    ramp = Ramp(from_share=begin, began_at=NOON, seconds=60)
    shares = Shares(challenger=end, ramp=ramp)

    found = [shares.challenger_at(NOON + timedelta(seconds=s)) for s in sorted(seconds)]

    assert found == sorted(found, reverse=end < begin)
    assert all(0 <= share <= 1 for share in found)
    assert shares.challenger_at(NOON) == begin
    assert shares.challenger_at(NOON + timedelta(seconds=60)) == end


def test_roles_without_shares_are_written_as_before_there_were_any() -> None:
    plain = Roles(model="m", generation=1, champion="a")
    contest = plain.model_copy(update={"challenger": "b", "shares": Shares(challenger=0.5)})

    assert "shares" not in plain.model_dump(mode="json")
    assert Roles.model_validate_json(contest.model_dump_json()) == contest

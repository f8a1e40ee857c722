"""How many replicas a load needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.sections import ScalingConfig
from app.serving.scaling import WINDOW_SECONDS, Latencies, replicas_wanted

OBJECTIVE = ScalingConfig(ongoing_per_replica=8, latency_objective_ms=50)


@pytest.mark.parametrize(
    ("current", "ongoing", "latencies", "wanted"),
    [
        (1, 0.0, [], 1),
        (1, 8.0, [], 1),
        (1, 8.1, [], 2),
        (4, 3.0, [], 1),
        (1, 1.0, [51.0], 2),
        (4, 1.0, [51.0] * 4, 6),
        (2, 80.0, [51.0, 51.0], 10),
        (4, 3.0, [10.0] * 4, 3),
        (4, 3.0, [30.0] * 4, 4),
        (2, 80.0, [10.0, 10.0], 10),
        (3, 3.0, [10.0, 10.0, 900.0], 2),
    ],
)
def test_replicas_follow_requests_under_way_and_the_objective(
    current: int, ongoing: float, latencies: list[float], wanted: int
) -> None:
    assert replicas_wanted(current, ongoing, latencies, OBJECTIVE).num_replicas == wanted


@given(
    st.integers(1, 50),
    st.floats(0, 5000),
    st.lists(st.floats(0, 10_000), max_size=9),
    st.floats(0, 100),
)
def test_more_load_never_wants_fewer(
    current: int, ongoing: float, latencies: list[float], more: float
) -> None:
    before = replicas_wanted(current, ongoing, latencies, OBJECTIVE).num_replicas
    after = replicas_wanted(current, ongoing + more, latencies, OBJECTIVE).num_replicas
    slower = replicas_wanted(current, ongoing, [each + more for each in latencies], OBJECTIVE)
    assert 1 <= before <= after
    assert before <= slower.num_replicas


def test_a_percentile_is_of_the_answers_of_the_last_seconds() -> None:
    latencies = Latencies()
    assert latencies.percentile_ms(0.0) == 0.0
    latencies.add(0.0, 9.0)
    for number in range(1, 101):
        latencies.add(WINDOW_SECONDS, number / 1000)
    assert latencies.percentile_ms(WINDOW_SECONDS + 0.1) == 96.0
    assert latencies.percentile_ms(3 * WINDOW_SECONDS) == 0.0


def test_bounds_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="min_replicas 3 is above max_replicas 2"):
        ScalingConfig(min_replicas=3, max_replicas=2)

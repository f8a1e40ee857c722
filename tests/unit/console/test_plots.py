"""Plots put values where they belong."""

import itertools
import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from app.console.plots import Scale, Series, TimeAxis, lines_panel, spread, ticks

AXIS = TimeAxis(
    datetime(2013, 4, 1, tzinfo=UTC), datetime(2013, 7, 1, tzinfo=UTC), left=100.0, right=191.0
)


def test_a_day_is_a_pixel_on_an_axis_of_91_days():
    assert AXIS.x(datetime(2013, 5, 1, tzinfo=UTC)) == 130.0


def test_a_time_outside_the_axis_stays_at_its_edge():
    assert AXIS.x(datetime(2014, 1, 1, tzinfo=UTC)) == 191.0


def test_months_split_at_their_first_days():
    assert [start.month for start, _ in AXIS.months()] == [4, 5, 6]


def test_a_span_within_one_month_is_one_stretch():
    short = TimeAxis(datetime(2013, 1, 11, tzinfo=UTC), datetime(2013, 1, 15, tzinfo=UTC))

    assert short.months() == [(short.start, short.end)]


def test_equal_values_still_give_a_scale():
    scale = Scale.around([0.7, 0.7], 0.0, 100.0)

    assert 0.0 < scale.y(0.7) < 100.0


def test_a_missing_value_breaks_the_line():
    points = tuple(
        (datetime(2013, month, 15, tzinfo=UTC), value)
        for month, value in ((4, 0.6), (5, None), (6, 0.7))
    )
    drawn = lines_panel(AXIS, Scale(0.5, 0.8, 0.0, 100.0), [Series("loop", points, "loop")], 3)

    path = re.search(r'<path d="([^"]*)"', drawn)
    assert path is not None
    assert path[1].count("M") == 2
    assert "L" not in path[1]


@given(st.lists(st.floats(0, 100), max_size=6))
def test_labels_keep_their_distance_and_their_order(wanted: list[float]):
    placed = spread(wanted, 0.0, 100.0)

    pairs = sorted(zip(wanted, placed, strict=True))
    heights = sorted(placed)
    assert [height for _, height in pairs] == heights
    assert all(b - a >= 14.0 - 1e-6 for a, b in itertools.pairwise(heights))


@given(st.floats(-10, 10), st.floats(1e-3, 10))
def test_ticks_stay_within_their_limits(low: float, span: float):
    chosen = ticks(low, low + span)

    assert all(low - 1e-6 <= tick <= low + span + 1e-6 for tick in chosen)
    assert 1 <= len(chosen) <= 8

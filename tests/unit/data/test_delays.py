import math
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.rows import TIMESTAMP
from app.data.delays import (
    MICROS_PER_HOUR,
    PENDING,
    DelayCounts,
    DelayCurve,
    Observed,
    exact_edges,
    hourly_edges,
    observe_delays,
)

NOON = datetime(2024, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY_HOURS = 24

# (delay or None, age) of a row, in hours.
Rows = list[tuple[int | None, int]]
rows_of_hours = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(0, 12)), st.integers(0, 12)), min_size=1, max_size=40
)


def observed(rows: Rows) -> Observed:
    delays = [PENDING if delay is None else delay * MICROS_PER_HOUR for delay, _ in rows]
    ages = [age * MICROS_PER_HOUR for _, age in rows]
    return Observed(np.array(delays, np.int64), np.array(ages, np.int64))


def fit(rows: Rows) -> DelayCurve:
    seen = observed(rows)
    return DelayCurve.fit(DelayCounts.of(seen, exact_edges(seen)))


def brute_force(rows: Rows, age: int) -> tuple[float, float]:
    """Product-limit coverage by an age in hours, and Greenwood's sum, row by row.

    A delay after the row's own age was not seen: the row is open then.
    """
    open_share, greenwood = 1.0, 0.0
    for moment in range(age + 1):
        watched = [
            (delay, end)
            for delay, end in rows
            if end >= moment and (delay is None or delay > end or delay >= moment)
        ]
        closed = sum(1 for delay, end in watched if delay == moment and delay <= end)
        if not closed:
            continue
        open_share *= 1 - closed / len(watched)
        left = len(watched) - closed
        greenwood += closed / (len(watched) * left) if left else math.inf
    return 1 - open_share, greenwood


def log(*reports: tuple[str, float, float]) -> pa.Table:
    """Reports of (row, known, received), both in hours after noon."""
    ids, known, received = zip(*reports, strict=True) if reports else ((), (), ())
    return pa.table(
        {
            "row_id": pa.array(ids, pa.string()),
            "known_at": pa.array([NOON + h * HOUR for h in known], TIMESTAMP),
            "received_at": pa.array([NOON + h * HOUR for h in received], TIMESTAMP),
        }
    )


def asked(*rows: tuple[str, float]) -> pa.Table:
    times = pa.array([NOON + hours * HOUR for _, hours in rows], TIMESTAMP)
    return pa.table({"row_id": [row for row, _ in rows], "prediction_time": times})


@settings(deadline=None)
@given(rows_of_hours)
def test_the_curve_is_the_product_limit_of_the_rows_one_by_one(rows: Rows) -> None:
    curve = fit(rows)
    last = max((delay for delay, age in rows if delay is not None and delay <= age), default=0)
    for age in range(last + 1):
        value, _, _ = curve.at(np.array([age * MICROS_PER_HOUR]))
        assert value[0] == pytest.approx(brute_force(rows, age)[0], abs=1e-12)


@settings(deadline=None)
@given(rows_of_hours)
def test_bounds_inside_are_greenwoods_on_the_log_log_scale(rows: Rows) -> None:
    curve, z = fit(rows), NormalDist().inv_cdf(0.975)
    for place, age in enumerate(curve.ages // MICROS_PER_HOUR):
        coverage, greenwood = brute_force(rows, int(age))
        if not 0 < coverage < 1 - 1e-12:
            continue
        spread = z * math.sqrt(greenwood) / abs(math.log(1 - coverage))
        low = 1 - (1 - coverage) ** math.exp(-spread)
        high = 1 - (1 - coverage) ** math.exp(spread)
        assert curve.low[place] >= low - 1e-9
        assert curve.high[place] >= high - 1e-9
        is_closing = brute_force(rows, int(age) - 1)[1] != greenwood
        if is_closing:
            assert curve.high[place] == pytest.approx(high, abs=1e-9)
        assert curve.low[place] == pytest.approx(max(low, *curve.low[: place + 1]), abs=1e-9)


@settings(deadline=None)
@given(rows_of_hours)
def test_bounds_hold_the_value_and_coverage_never_falls(rows: Rows) -> None:
    curve = fit(rows)
    assert (curve.low <= curve.coverage + 1e-12).all()
    assert (curve.coverage <= curve.high + 1e-12).all()
    assert (np.diff(curve.coverage) >= -1e-12).all()
    assert (np.diff(curve.low) >= 0).all()


@settings(deadline=None)
@given(rows_of_hours, rows_of_hours, st.randoms())
def test_counts_of_parts_add_up_to_those_of_all_rows_in_any_order(
    left: Rows, right: Rows, random: Random
) -> None:
    edges = hourly_edges(1)
    everything = left + right
    random.shuffle(everything)
    merged = DelayCounts.of(observed(left), edges).merge(DelayCounts.of(observed(right), edges))
    whole = DelayCounts.of(observed(everything), edges)
    assert (merged.closed == whole.closed).all()
    assert (merged.open_ == whole.open_).all()
    assert merged.num_rows == len(everything)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=60))
def test_fixed_edges_give_the_curve_of_delays_rounded_up_and_ages_down(
    minutes: list[tuple[int, int]],
) -> None:
    unit = MICROS_PER_HOUR // 60
    seen = Observed(*(np.array(part, np.int64) * unit for part in zip(*minutes, strict=True)))
    curve = DelayCurve.fit(DelayCounts.of(seen, hourly_edges(1)))
    rounded = [(-(-delay // 60), age // 60) for delay, age in minutes]
    for place, age in enumerate(curve.ages // MICROS_PER_HOUR):
        assert curve.coverage[place] == pytest.approx(brute_force(rounded, int(age))[0], abs=1e-12)


def test_rows_whose_outcome_has_not_come_count_for_longer_delays() -> None:
    # Of four rows two closed after an hour; the open ones were watched for only half of it.
    young = fit([(1, 5), (1, 5), (None, 0), (None, 0)])
    old = fit([(1, 5), (1, 5), (None, 5), (None, 5)])
    assert young.expected(np.array([MICROS_PER_HOUR])).value == 1.0
    assert old.expected(np.array([MICROS_PER_HOUR])).value == 0.5


def test_a_share_that_was_never_reached_has_no_age() -> None:
    curve = fit([(1, 48)] * 8 + [(None, 48)] * 2)
    assert curve.age_of(0.8).value == pytest.approx(1 / DAY_HOURS)
    assert curve.age_of(0.9).value is None


def test_few_rows_promise_an_age_less_surely_than_many() -> None:
    few = fit([(hours, 30) for hours in range(1, 11)]).age_of(0.5)
    many = fit([(hours, 30) for hours in range(1, 11)] * 100).age_of(0.5)
    assert few.value == many.value == pytest.approx(5 / DAY_HOURS)
    assert few.low is not None
    assert many.low is not None
    assert few.low < many.low <= 5 / DAY_HOURS
    assert few.high is None or (many.high is not None and few.high > many.high)


def test_beyond_what_was_watched_the_value_holds_and_the_upper_bound_is_open() -> None:
    curve = fit([(1, 2), (None, 2)])
    value, low, high = curve.at(np.array([100 * MICROS_PER_HOUR]))
    assert (value[0], high[0]) == (0.5, 1.0)
    assert low[0] == curve.low[-1]


def test_where_all_or_none_have_closed_the_bounds_are_binomial() -> None:
    none = DelayCurve.fit(DelayCounts.of(observed([(None, 5)] * 10), hourly_edges(1)))
    every = fit([(0, 5)] * 10)
    # Clopper and Pearson, 0 of 10: 1 - 0.025 ** 0.1.
    assert none.high[0] == pytest.approx(0.30849710)
    assert none.low[0] == 0.0
    assert every.low[0] == pytest.approx(1 - 0.30849710)
    assert every.high[0] == 1.0


def test_that_all_rows_of_an_age_have_closed_says_more_the_more_there_are() -> None:
    # All but one close within the hour; all 100 that are old enough have closed after two.
    curve = fit([(1, 5)] * 99 + [(2, 5)] + [(None, 0)] * 50)
    assert curve.coverage[-1] == 1.0
    assert curve.low[-1] == pytest.approx(0.025 ** (1 / 100))


def test_what_is_still_to_come_is_what_rows_of_that_age_went_on_to_bring() -> None:
    # Of 10 rows 5 close at hour 1, 2 at hour 3, 3 never.
    curve = fit([(1, 9)] * 5 + [(3, 9)] * 2 + [(None, 9)] * 3)
    two_hours = np.array([2 * MICROS_PER_HOUR] * 10)
    assert curve.still_to_come(two_hours) == pytest.approx(10 * 2 / 5)
    assert curve.still_to_come(two_hours, within=HOUR / 2) == 0.0
    assert curve.still_to_come(two_hours, within=HOUR) == pytest.approx(4.0)
    assert curve.still_to_come(two_hours * 50) == 0.0


def test_no_rows_say_nothing() -> None:
    curve = DelayCurve.fit(DelayCounts.of(observed([]), hourly_edges(1)))
    assert curve.age_of(0.5).value is None
    assert curve.expected(np.array([MICROS_PER_HOUR])).high == 1.0
    assert curve.expected(np.array([], np.int64)).value is None
    assert curve.still_to_come(np.array([MICROS_PER_HOUR])) == 0.0


def test_an_outcome_closes_its_row_when_it_is_known_and_has_arrived() -> None:
    reports = log(("a", 1, 3), ("a", 2, 2), ("b", 1, 9), ("x", 1, 1), ("c", -2, -1))
    rows = asked(("a", 0), ("a", 1), ("b", 0), ("c", 0), ("d", 5), ("later", 7))
    ours = observe_delays(rows, reports, NOON + 6 * HOUR)
    world = observe_delays(rows, reports, NOON + 6 * HOUR, by_arrival=False)

    def hours(seen: Observed) -> list[tuple[int | None, int]]:
        delays = [None if d == PENDING else d // MICROS_PER_HOUR for d in seen.delays.tolist()]
        ages = (seen.ages // MICROS_PER_HOUR).tolist()
        return list(zip(delays, ages, strict=True))

    # a: known and here after 2 hours by its second report; c: before it was asked.
    assert hours(ours) == [(2, 6), (None, 6), (0, 6), (None, 1)]
    assert hours(world) == [(1, 6), (1, 6), (0, 6), (None, 1)]


@pytest.mark.parametrize("edges", [[], [-1, 1], [1, 1], [2, 1]])
def test_edges_that_do_not_rise_are_refused(edges: list[int]) -> None:
    with pytest.raises(ValueError, match="edges must rise"):
        DelayCounts.of(observed([(1, 2)]), np.array(edges, np.int64))


def test_rows_not_asked_yet_are_refused() -> None:
    with pytest.raises(ValueError, match="leave out rows"):
        DelayCounts.of(observed([(None, -1)]), hourly_edges(1))


def test_counts_on_different_edges_do_not_add_up() -> None:
    rows = observed([(1, 2)])
    with pytest.raises(ValueError, match="use the same edges"):
        DelayCounts.of(rows, hourly_edges(1)).merge(DelayCounts.of(rows, hourly_edges(2)))


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5])
def test_a_share_outside_zero_and_one_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit([(1, 2)]).age_of(share)


def simulate(num_rows: int, seed: int, never: float = 0.0) -> Observed:
    """Exponential delays with a mean of a day, ages uniform up to four days, some never close."""
    draw = np.random.default_rng(seed)
    day = 24 * MICROS_PER_HOUR
    delays = np.ceil(draw.exponential(day, num_rows)).astype(np.int64)
    delays[draw.random(num_rows) < never] = PENDING
    return Observed(delays, (draw.random(num_rows) * 4 * day).astype(np.int64))


@pytest.mark.parametrize(("num_rows", "truth"), [(40, 0.6), (300, 0.6), (300, 0.9)])
def test_intervals_hold_the_true_coverage_as_often_as_they_say(num_rows: int, truth: float) -> None:
    num_runs, never = 1500, 0.05
    age = np.array([int(-math.log(1 - truth / (1 - never)) * 24 * MICROS_PER_HOUR)])
    held = 0
    for seed in range(num_runs):
        seen = simulate(num_rows, seed, never)
        _, low, high = DelayCurve.fit(DelayCounts.of(seen, exact_edges(seen))).at(age)
        held += bool(low[0] <= truth <= high[0])
    print(f"95% intervals of {num_rows} rows held coverage {truth} in {held} of {num_runs} runs")
    # The error of a share of 1,500 runs is .0056; the bounds are three of them away.
    assert 0.93 <= held / num_runs <= 0.98


def test_the_interval_of_an_age_holds_the_true_age() -> None:
    num_runs, truth = 600, -math.log(1 - 0.8)
    held = 0
    for seed in range(num_runs):
        seen = simulate(200, seed)
        age = DelayCurve.fit(DelayCounts.of(seen, exact_edges(seen))).age_of(0.8)
        held += (age.low or 0.0) <= truth <= (math.inf if age.high is None else age.high)
    print(f"95% intervals of the age of 80% coverage held it in {held} of {num_runs} runs")
    assert 0.92 <= held / num_runs <= 0.985


def test_expected_coverage_of_a_cohort_is_what_it_turns_out_to_have() -> None:
    learned = DelayCurve.fit(DelayCounts.of(simulate(20_000, 1), hourly_edges(5)))
    cohort = simulate(20_000, 2)
    expected = learned.expected(cohort.ages)
    realised = float((cohort.delays <= cohort.ages).mean())
    assert expected.value == pytest.approx(realised, abs=0.02)
    assert expected.low is not None
    assert expected.high is not None
    # Edges of whole hours understate by less than an hour's worth.
    assert expected.low < realised < expected.high + 1 / 24

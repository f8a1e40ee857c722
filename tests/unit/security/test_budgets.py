"""Rates and daily rows: never more than what is allowed, and a wait that is right."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.contracts.access import Limits
from app.security import budgets as budgets_file
from app.security.access import Principal
from app.security.budgets import DAY_SECONDS, Budgets, BudgetSpent, Rate

# Noon of a day long after 1970, as times of a machine are.
NOON = 19_700 * DAY_SECONDS + DAY_SECONDS / 2
SHOP = Principal(name="shop", roles=("predict",))
RATES = st.floats(0.01, 5000, allow_nan=False)
BURSTS = st.integers(1, 50)
# Sixty-fourths of a second: sums of them are exact, so that the property is too.
PAUSES = st.lists(st.integers(0, 640), min_size=1, max_size=120)


def limited(**limits: float | int) -> Budgets:
    return Budgets(Limits.model_validate(limits))


def passes(budgets: Budgets, who: Principal = SHOP, now: float = NOON) -> bool:
    try:
        budgets.admit(who, now)
    except BudgetSpent:
        return False
    return True


def spent(budgets: Budgets, rows: int, now: float = NOON, who: Principal = SHOP) -> BudgetSpent:
    with pytest.raises(BudgetSpent) as caught:
        budgets.charge(who, rows, now)
    return caught.value


@given(rate=RATES, burst=BURSTS, pauses=PAUSES)
def test_no_window_holds_more_than_the_burst_and_the_rate(
    rate: float, burst: int, pauses: list[int]
) -> None:
    bucket, now, passed = Rate(rate, burst), NOON, []
    for pause in pauses:
        now += pause / 64
        if bucket.take(now) == 0:
            passed.append(now)

    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            num = last - first + 1
            assert num <= burst + rate * (passed[last] - start), (rate, burst, start, passed[last])


@given(rate=RATES, burst=BURSTS, pauses=PAUSES)
def test_the_wait_that_is_told_is_enough_and_less_than_a_second_too_long(
    rate: float, burst: int, pauses: list[int]
) -> None:
    now, bucket = NOON, Rate(rate, burst)
    for pause in pauses:
        now += pause / 64
        seconds = bucket.take(now)
        if seconds == 0:
            continue
        before = Rate(rate, burst)
        before._due = bucket._due
        # A refusal uses nothing: one second earlier is too early, unless that is now.
        assert seconds == 1 or before.take(now + seconds - 1) > 0
        assert bucket.take(now + seconds) == 0
        now += seconds


@given(rate=RATES, burst=BURSTS, moves=st.lists(st.integers(-640, 640), max_size=100))
def test_a_clock_that_jumps_back_admits_nothing_more(
    rate: float, burst: int, moves: list[int]
) -> None:
    bucket, now, times, passed = Rate(rate, burst), NOON, [NOON], 1
    assert bucket.take(now) == 0
    for move in moves:
        now += move / 64
        times.append(now)
        passed += bucket.take(now) == 0
    assert passed <= burst + rate * (max(times) - NOON)


@given(rate=RATES, burst=BURSTS)
def test_after_a_long_pause_the_whole_burst_passes_and_no_more(rate: float, burst: int) -> None:
    bucket = Rate(rate, burst)
    for now in (NOON, NOON + 2 * burst / rate + 1):
        taken = [bucket.take(now) for _ in range(burst + 1)]
        assert taken[:burst] == [0] * burst
        assert taken[burst] >= 1


def test_a_refusal_says_which_limit_and_how_long_to_wait() -> None:
    budgets = limited(requests_per_second=0.25, burst=2)
    assert [passes(budgets) for _ in range(3)] == [True, True, False]

    with pytest.raises(BudgetSpent) as caught:
        budgets.admit(SHOP, NOON + 1.5)

    assert caught.value.retry_after == 3
    assert str(caught.value) == (
        "more than 0.25 requests a second; wait 3 s, and ask for more rows at once"
    )
    assert passes(budgets, now=NOON + 4.5)


def test_each_caller_has_an_account_of_its_own() -> None:
    budgets = limited(requests_per_second=1, burst=1)
    callers = [SHOP, Principal(name="desk", roles=("audit",))]
    callers.append(Principal(name="shop", roles=("predict",), kind="token"))

    assert [passes(budgets, who) for who in callers] == [True] * 3
    assert [passes(budgets, who) for who in callers] == [False] * 3


def test_a_key_of_its_own_limits_goes_by_them_and_by_the_default_for_the_rest() -> None:
    budgets = limited(requests_per_second=1, burst=1, rows_per_day=10)
    quick = Principal(name="quick", roles=("predict",), limits=Limits(requests_per_second=3))

    assert [passes(budgets, quick) for _ in range(4)] == [True] * 3 + [False]
    budgets.charge(quick, 10, NOON)
    assert spent(budgets, 1, who=quick).retry_after == DAY_SECONDS // 2


def test_changed_limits_go_on_with_what_was_used() -> None:
    budgets = limited(rows_per_day=10)
    budgets.charge(SHOP, 8, NOON)
    more = SHOP.model_copy(update={"limits": Limits(rows_per_day=20)})

    budgets.charge(more, 12, NOON)

    assert "send at most 0 rows now" in str(spent(budgets, 1, who=more))


def test_without_limits_nothing_is_counted() -> None:
    budgets = Budgets(Limits())
    for _ in range(1000):
        budgets.admit(SHOP, NOON)
        budgets.charge(SHOP, 10**9, NOON)
    assert budgets.used(NOON) == {}


def test_rows_are_counted_all_or_none_until_the_day_ends() -> None:
    budgets = limited(rows_per_day=100)
    budgets.charge(SHOP, 70, NOON)

    refused = spent(budgets, 31, NOON + 0.25)
    assert str(refused) == (
        "31 rows, and no so many left of 100 a day; "
        "send at most 30 rows now, or wait for the next day (UTC)"
    )
    assert refused.retry_after == DAY_SECONDS // 2
    budgets.charge(SHOP, 30, NOON + 1)
    assert budgets.used(NOON + 1) == {"key:shop": 100}
    assert spent(budgets, 1, NOON + DAY_SECONDS / 2 - 0.5).retry_after == 1
    budgets.charge(SHOP, 100, NOON + DAY_SECONDS / 2)
    assert budgets.used(NOON) == {}


@given(now=st.floats(NOON, NOON + 10 * DAY_SECONDS))
def test_the_wait_for_rows_ends_in_the_next_day_and_within_a_second_of_its_start(
    now: float,
) -> None:
    budgets = limited(rows_per_day=1)
    budgets.charge(SHOP, 1, now)

    seconds = spent(budgets, 1, now).retry_after

    assert seconds is not None
    assert 0 <= now % DAY_SECONDS + seconds - DAY_SECONDS < 1
    budgets.charge(SHOP, 1, now + seconds)


def test_more_rows_than_a_day_has_are_told_that_no_waiting_helps() -> None:
    budgets = limited(rows_per_day=100)
    refused = spent(budgets, 101)
    assert (refused.retry_after, refused.change) == (None, "send at most 100 in a request")
    assert budgets.used(NOON) == {}


def test_a_replica_s_share_is_the_limit_divided_by_the_replicas() -> None:
    budgets = limited(requests_per_second=8, burst=12, rows_per_day=100)
    assert passes(budgets)
    budgets.follow(4, {}, {}, NOON)

    later = NOON + 60
    assert [passes(budgets, now=later) for _ in range(4)] == [True] * 3 + [False]
    assert [passes(budgets, now=later + 0.5) for _ in range(2)] == [True, False]
    budgets.charge(SHOP, 25, NOON)
    assert spent(budgets, 1).change.startswith("send at most 0 rows now")
    assert spent(budgets, 26).change == "send at most 25 in a request"


def test_one_request_passes_however_many_replicas_share_a_burst() -> None:
    budgets = limited(requests_per_second=1, burst=1)
    budgets.follow(8, {}, {}, NOON)

    assert [passes(budgets) for _ in range(2)] == [True, False]
    assert [passes(budgets, now=NOON + wait) for wait in (7.9, 8.1)] == [False, True]


def test_what_others_have_not_used_comes_back_with_each_exchange() -> None:
    budgets = limited(rows_per_day=100)
    budgets.follow(2, {}, {"key:shop": 10}, NOON)
    budgets.charge(SHOP, 45, NOON)
    assert spent(budgets, 1).retry_after

    budgets.follow(2, budgets.used(NOON), {"key:shop": 15}, NOON)

    budgets.charge(SHOP, 20, NOON)
    assert spent(budgets, 1).retry_after
    assert budgets.used(NOON) == {"key:shop": 65}


@given(
    num=st.integers(1, 5),
    turns=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 40)), max_size=80),
)
def test_replicas_that_exchange_after_each_request_never_exceed_the_limit(
    num: int, turns: list[tuple[int, int]]
) -> None:
    replicas = [limited(rows_per_day=100) for _ in range(num)]
    for which, rows in turns:
        used = [each.used(NOON) for each in replicas]
        for place, each in enumerate(replicas):
            others = sum(u.get("key:shop", 0) for i, u in enumerate(used) if i != place)
            each.follow(num, used[place], {"key:shop": others}, NOON)
        try:
            replicas[which % num].charge(SHOP, rows, NOON)
        except BudgetSpent:
            continue
    assert sum(each.used(NOON).get("key:shop", 0) for each in replicas) <= 100


def test_many_threads_together_get_no_more_than_the_limit() -> None:
    budgets = limited(requests_per_second=0.001, burst=500, rows_per_day=700)
    passed: list[bool] = []

    def ask() -> None:
        for _ in range(300):
            passed.append(passes(budgets))
            try:
                budgets.charge(SHOP, 1, NOON)
            except BudgetSpent:
                continue

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert sum(passed) == 500
    assert budgets.used(NOON) == {"key:shop": 700}


def test_accounts_are_bounded_and_the_last_callers_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budgets_file, "MAX_ACCOUNTS", 3)
    budgets = limited(rows_per_day=10)
    for name in "abcad":
        budgets.charge(Principal(name=name, roles=("predict",)), 1, NOON)
    assert budgets.used(NOON) == {"key:c": 1, "key:a": 2, "key:d": 1}


@pytest.mark.parametrize(
    "given", [{"requests_per_second": 0}, {"burst": 0}, {"rows_per_day": -1}, {"rows": 5}]
)
def test_a_limit_that_is_none_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Limits.model_validate(given)

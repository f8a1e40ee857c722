"""Count what each caller asks for and say when it is too much: a rate, and rows a day.

Knows principals, limits and times; knows nothing of HTTP or of where counts are kept. Time is a
parameter, in seconds since 1970. One replica counts only what it has seen, so that its share of a
limit is the limit divided by the replicas that live; of a day's rows it is what is left of them
today, divided likewise, as often as `follow` says what the others have counted.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.contracts.access import Limits
from app.security.access import Principal

# A power of two: a time becomes ticks without being rounded.
SECOND = 2**30
DAY_SECONDS = 86400
MAX_ACCOUNTS = 20_000


class BudgetSpent(Exception):
    """A caller has asked for too much; the message says which limit, and nothing of others."""

    def __init__(self, got: str, change: str, retry_after: int | None) -> None:
        """Say what was asked, what to change, and after how many seconds the same may be asked.

        None: never, since it is more than a whole day's share.
        """
        super().__init__(f"{got}; {change}")
        self.got = got
        self.change = change
        self.retry_after = retry_after


class Rate:
    """So many requests a second, and so many at once after a pause.

    The virtual scheduling form of the generic cell rate algorithm, ITU-T I.371 annex A, which
    counts as a token bucket does and keeps one number. In whole ticks, so that nothing is rounded
    in the caller's favour: no window of t seconds holds more than burst + rate × t. A time
    that goes back admits nothing more than one that stands still.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        """Begin with the whole burst."""
        self._due = 0
        self.change(per_second, burst)

    def change(self, per_second: float, burst: int) -> None:
        """Go on with another rate and burst: what was used stays used."""
        self._every = math.ceil(SECOND / per_second)
        self._reach = (burst - 1) * self._every

    def take(self, now: float) -> int:
        """Take one request: 0 when it may pass, else the whole seconds after which one may.

        >>> rate = Rate(per_second=0.5, burst=2)
        >>> [rate.take(now) for now in (100.0, 100.0, 100.0, 101.5, 102.0)]
        [0, 0, 2, 1, 0]
        """
        at = int(now * SECOND)
        due = max(self._due, at)
        over = due - at - self._reach
        if over > 0:
            return -(-over // SECOND)
        self._due = due + self._every
        return 0


@dataclass
class _Account:
    """What one caller has used here."""

    name: str
    given: Limits
    limits: Limits
    rate: Rate | None
    day: int = 0
    rows: int = 0
    """Of this day, here."""
    known: int = 0
    """Of those, the ones that were counted when the others' were."""


class Budgets:
    """The accounts of all callers of one replica. Safe to use from several threads.

    At most 20,000 callers are kept, those who came last; whoever is dropped begins anew.
    """

    def __init__(
        self, default: Limits, name: Callable[[Principal], str] = lambda who: who.account
    ) -> None:
        """Take the limits of those who have none of their own, and what others may call them."""
        self._default = default
        self._name = name
        self._is_free = default == Limits()
        self._lock = threading.Lock()
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._num_replicas = 1
        self._others: Mapping[str, int] = {}
        self._others_day = 0

    def admit(self, who: Principal, now: float) -> None:
        """Count one request. Raises BudgetSpent."""
        if self._is_free and who.limits.requests_per_second is None:
            return
        with self._lock:
            account = self._account(who)
            seconds = account.rate.take(now) if account.rate else 0
        if seconds:
            got = f"more than {account.limits.requests_per_second:g} requests a second"
            raise BudgetSpent(got, f"wait {seconds} s, and ask for more rows at once", seconds)

    def charge(self, who: Principal, num_rows: int, now: float) -> None:
        """Count rows, all or none of them. Raises BudgetSpent.

        Rows are counted when they are asked, whatever becomes of them: rejecting costs work too.
        """
        if self._is_free and who.limits.rows_per_day is None:
            return
        with self._lock:
            account = self._account(who)
            most = account.limits.rows_per_day
            if most is None:
                return
            self._turn_day(account, int(now // DAY_SECONDS))
            left = self._allowance(account, most) - account.rows
            if num_rows <= left:
                account.rows += num_rows
                return
            share = most // self._num_replicas
        if num_rows > share:
            got, change = f"{num_rows} rows, of {most} a day", f"send at most {share} in a request"
            raise BudgetSpent(got, change, None)
        change = f"send at most {max(left, 0)} rows now, or wait for the next day (UTC)"
        # The wait is whole, over 0, and ends in the next day.
        seconds = DAY_SECONDS - int(now % DAY_SECONDS)
        raise BudgetSpent(f"{num_rows} rows, and no so many left of {most} a day", change, seconds)

    def used(self, now: float) -> dict[str, int]:
        """Give the rows that were counted here today, by the account's name."""
        day = int(now // DAY_SECONDS)
        with self._lock:
            return {a.name: a.rows for a in self._accounts.values() if a.day == day and a.rows}

    def follow(
        self, num_replicas: int, used: Mapping[str, int], others: Mapping[str, int], now: float
    ) -> None:
        """Take in how many replicas live, and what the others have counted today.

        `used` is what this one had counted at that time, as `used()` gave it.
        """
        day = int(now // DAY_SECONDS)
        with self._lock:
            changed = num_replicas != self._num_replicas
            self._num_replicas, self._others, self._others_day = num_replicas, others, day
            for account in self._accounts.values():
                self._turn_day(account, day)
                account.known = used.get(account.name, 0)
                if changed and account.rate is not None:
                    account.rate.change(*self._share_of(account.limits))

    def _account(self, who: Principal) -> _Account:
        account = self._accounts.get(who.account)
        if account is None or account.given is not who.limits:
            account = self._open(who, account)
            self._accounts[who.account] = account
        self._accounts.move_to_end(who.account)
        if len(self._accounts) > MAX_ACCOUNTS:
            self._accounts.popitem(last=False)
        return account

    def _open(self, who: Principal, before: _Account | None) -> _Account:
        """Open an account, or go on with one whose limits may have changed."""
        limits = who.limits.over(self._default)
        if before is not None and before.limits == limits:
            before.given = who.limits
            return before
        rate = None
        if limits.requests_per_second is not None:
            rate = before.rate if before is not None else None
            share = self._share_of(limits)
            if rate is None:
                rate = Rate(*share)
            else:
                rate.change(*share)
        if before is None:
            return _Account(self._name(who), who.limits, limits, rate)
        before.given, before.limits, before.rate = who.limits, limits, rate
        return before

    def _share_of(self, limits: Limits) -> tuple[float, int]:
        """Give this replica's rate and burst: one request at least can pass."""
        assert limits.requests_per_second is not None
        burst = max(1, limits.most_at_once // self._num_replicas)
        return limits.requests_per_second / self._num_replicas, burst

    def _turn_day(self, account: _Account, day: int) -> None:
        """Begin a new day; a clock that goes back stays in the later one."""
        if day > account.day:
            account.day, account.rows, account.known = day, 0, 0

    def _allowance(self, account: _Account, most: int) -> int:
        """How many rows of today may be counted here, those that were included."""
        others = self._others.get(account.name, 0) if self._others_day == account.day else 0
        left = max(most - others - account.known, 0)
        return account.known + left // self._num_replicas

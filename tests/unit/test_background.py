"""Rounds in a thread: paused as they say, ended from inside or from outside."""

import threading

import pytest

from app import background
from app.background import Pace, Rounds


def test_rounds_follow_each_other_until_the_work_ends_them() -> None:
    pauses = iter([0.0, 0.0, None])
    done = threading.Event()

    def work() -> float | None:
        pause = next(pauses)
        if pause is None:
            done.set()
        return pause

    rounds = Rounds("test", work, 0.0)
    rounds.start()
    assert done.wait(10)
    rounds.stop()
    assert not rounds.alive
    assert next(pauses, "all used") == "all used"


def test_stopping_ends_a_long_pause_at_once_and_waits_for_the_round() -> None:
    began, seen = threading.Event(), []

    def work() -> float:
        began.set()
        while not rounds.stopping():
            pass
        seen.append("ended early")
        return 3600.0

    rounds = Rounds("test", work, 0.0)
    rounds.start()
    assert began.wait(10)
    rounds.stop(10)
    assert seen == ["ended early"]
    assert not rounds.alive


def test_rounds_that_never_began_can_be_stopped() -> None:
    rounds = Rounds("test", lambda: None, 0.0)
    rounds.stop()
    assert not rounds.alive


def test_long_work_rests_where_it_has_lasted_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "WORK_SECONDS", 1.0)
    monkeypatch.setattr(background, "REST_SECONDS", 0.5)
    now, rests = [0.0], []

    def sleep(seconds: float) -> None:
        rests.append(now[0])
        now[0] += seconds

    monkeypatch.setattr(background.time, "sleep", sleep)
    rest = Pace(lambda: now[0])
    for _ in range(12):
        now[0] += 0.25
        rest()
    # Every fourth step; what the rest itself takes is no work.
    assert rests == [1.0, 2.5, 4.0]

"""A line that says how long one more would wait."""

import pytest

from app.serving.waiting import Line


def answer(line: Line, number: int, seconds: float, together: int = 1, at: float = 0.0) -> float:
    """Answer so many, so many at a time, each time in so many seconds; give the time then."""
    for _ in range(number // together):
        for _ in range(together):
            line.enter(at)
        at += seconds
        for _ in range(together):
            line.leave(at)
    return at


def fill(line: Line, number: int, at: float) -> float:
    """Let so many come at once; give what one more would wait."""
    for _ in range(number):
        line.enter(at)
    return line.wait


def test_one_more_waits_as_long_as_those_before_it_take() -> None:
    line = Line()
    at = answer(line, 20, 0.05)
    assert fill(line, 3, at) == pytest.approx(0.15)


def test_nobody_waits_in_an_empty_line_however_slow_it_was() -> None:
    line = Line()
    answer(line, 20, 5.0)
    assert line.wait == 0


def test_those_who_are_answered_together_share_the_seconds() -> None:
    line = Line()
    at = answer(line, 320, 0.08, together=16)
    assert fill(line, 16, at) == pytest.approx(0.08)


def test_idle_time_counts_for_nothing() -> None:
    line = Line()
    for number in range(60):
        answer(line, 1, 0.01, at=100.0 * number)
    assert fill(line, 10, 1e6) == pytest.approx(0.1)


def test_a_first_slow_answer_or_a_pause_of_the_process_turns_nobody_away() -> None:
    line = Line()
    at = answer(line, 1, 3.0)
    assert fill(line, 1, at) == 0
    line.leave(at)
    at = answer(line, 500, 0.001, at=at)
    at = answer(line, 1, 2.0, at=at)
    assert fill(line, 40, at) < 0.05


def test_a_new_pace_is_seen_soon() -> None:
    line = Line()
    at = answer(line, 1000, 0.001)
    at = answer(line, 4, 0.2, at=at)
    assert fill(line, 4, at) == pytest.approx(0.8)
    for _ in range(4):
        line.leave(at)
    at = answer(line, 400, 0.001, at=at)
    assert fill(line, 4, at) < 0.01

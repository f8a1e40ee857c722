"""Faults over live rows: counted at once, told once a minute, and never with a row in a problem."""

import logging

import pytest

from app.serving.faults import TELL_SECONDS, Faults


def test_a_thousand_faults_are_two_lines_in_two_minutes(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    with caplog.at_level(logging.ERROR):
        for second in range(int(TELL_SECONDS) + 1):
            for _ in range(16):
                faults.note("b", 2, ValueError("no such port"))
            faults.tell(1000.0 + second)

    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    first, second = (record.getMessage() for record in caplog.records)
    assert "for 32 rows" in first
    assert "for 1920 rows" in second
    assert "ValueError: no such port" in second


def test_problems_name_the_kind_and_never_the_words_of_an_error() -> None:
    faults = Faults()
    faults.note("b", 1, ValueError("cannot read Jane Doe"))
    faults.note("c", 1, ArithmeticError("x"))

    faults.keep(["b"])

    assert faults.problems == {"b": "no usable answer for live rows: ValueError, see the log"}


def test_without_faults_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()

    faults.tell(0.0)

    assert not caplog.records
    assert faults.problems == {}

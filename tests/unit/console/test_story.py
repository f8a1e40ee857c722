"""The result in words, whichever way it went."""

import pytest

from app.console.story import headline, lede
from tests.unit.console.reports import AUC, board, report


def loop_at(*auc: float | None):
    return report(scoreboard=board(AUC | {"loop": auc}))


def test_the_headline_says_by_how_much_the_loop_won():
    told = headline(report())

    assert told == (
        "Over three months the loop reached a mean AUC of 0.690 with two retrainings: "
        "0.010 above the first champion kept for ever."
    )


def test_the_headline_says_so_when_the_loop_lost():
    assert "0.030 below the first champion" in headline(loop_at(0.63, 0.65, 0.67))


def test_the_headline_says_so_when_nothing_was_gained():
    assert "level with the first champion" in headline(loop_at(0.65, 0.70, 0.69))


def test_the_headline_does_without_the_loop():
    only = {"static": AUC["static"]}

    assert "without an answer of the loop" in headline(report(scoreboard=board(only)))


def test_the_worst_month_against_the_static_champion_is_named():
    assert "was May, \u22120.020 AUC" in lede(loop_at(0.66, 0.68, 0.72))


def test_a_loop_that_never_fell_below_the_static_champion_is_told_so():
    assert "In no month did the loop fall below" in lede(report())


@pytest.mark.parametrize(("failed", "told"), [(0, "none failed"), (7, "7 failed")])
def test_failed_requests_are_told(failed: int, told: str):
    assert f"Of 321 requests {told}." in lede(report(failed=failed))

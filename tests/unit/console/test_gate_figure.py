"""The figure of a gate stands for any report that a gate can leave."""

from xml.etree import ElementTree

import pytest

from app.console.gate import LEFT, RIGHT, gate_figure
from app.contracts.records import Metric
from tests.unit.console.reports import gate

NOTHING = Metric(value=0.0, low=0.0, high=0.0)


def circles(report) -> list[float]:
    drawn = ElementTree.fromstring(str(gate_figure(report)))
    return [float(circle.attrib["cx"]) for circle in drawn.iter() if circle.tag.endswith("circle")]


def test_gains_of_nothing_stand_in_the_middle():
    same = {"auc_gain": NOTHING, "ranking_gain": NOTHING, "slices": {"origin=EWR": NOTHING}}
    assert circles(gate().model_copy(update=same)) == [(LEFT + RIGHT) / 2] * 3


@pytest.mark.parametrize(("value", "side"), [(0.03, 1), (-0.03, -1)])
def test_a_gain_stands_on_its_side_and_inside(value: float, side: int):
    gain = Metric(value=value, low=value - 0.01, high=value + 0.01)
    report = gate().model_copy(update={"auc_gain": gain, "ranking_gain": None, "slices": {}})
    (x,) = circles(report)
    assert (x - (LEFT + RIGHT) / 2) * side > 0
    assert LEFT <= x <= RIGHT


def test_a_report_without_gains_is_drawn_too():
    nothing = {"auc_gain": None, "ranking_gain": None, "brier_gain": None, "slices": {}}
    assert circles(gate().model_copy(update=nothing)) == []

import numpy as np

from app.monitoring.performance import SKEW_TOLERANCE, realised, skewed_share
from tests.unit.monitoring.logs import CONFIG


def test_rounding_is_no_skew_and_a_wrong_figure_is() -> None:
    logged = np.array([0.2, 0.5, 0.7, 0.9])
    assert skewed_share(logged, logged + SKEW_TOLERANCE / 10) == 0.0
    assert skewed_share(logged, logged + np.array([0, 0, 0, 1e-3])) == 0.25


def test_a_figure_that_is_no_number_is_skew() -> None:
    assert skewed_share(np.array([0.2, 0.5]), np.array([0.2, np.nan])) == 0.5


def test_no_rows_show_no_skew() -> None:
    assert skewed_share(np.array([]), np.array([])) == 0.0


def test_realised_figures_need_enough_labels_of_both_kinds() -> None:
    chance = np.linspace(0.1, 0.9, 30)
    labels = (chance > 0.5).astype(int)

    assert realised(labels[:19], chance[:19], CONFIG) is None
    assert realised(np.ones(30, int), chance, CONFIG) is None
    found = realised(labels, chance, CONFIG)
    assert found is not None
    assert found.roc_auc.value == 1.0

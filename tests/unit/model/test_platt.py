"""Platt scaling."""

import numpy as np
import pytest

from app.model.calibration import Calibrator
from app.model.evaluation import calibration_error


def distorted(number: int, slope: float, intercept: float) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(1)
    logits = chance.normal(-1, 1, number)
    labels = (chance.random(number) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    return 1 / (1 + np.exp(-(logits - intercept) / slope)), labels


def test_fit_finds_the_distortion() -> None:
    probabilities, labels = distorted(40_000, slope=0.5, intercept=0.8)
    calibrator = Calibrator.fit(probabilities, labels)
    assert calibrator.slope == pytest.approx(0.5, abs=0.03)
    assert calibrator.intercept == pytest.approx(0.8, abs=0.05)
    before, after = (
        calibration_error(labels, p) for p in (probabilities, calibrator.apply(probabilities))
    )
    assert after < 0.01 < 0.1 < before


@pytest.mark.parametrize("scale", [0.1, 5.0, 50.0])
def test_fit_settles_for_extreme_probabilities(scale: float) -> None:
    probabilities, labels = distorted(4_000, slope=1 / scale, intercept=0.0)
    calibrator = Calibrator.fit(probabilities, labels)
    assert 0.05 <= calibrator.slope < 20
    assert calibration_error(labels, calibrator.apply(probabilities)) < 0.05


def test_order_is_kept_even_when_outcomes_contradict_it() -> None:
    probabilities = np.linspace(0.1, 0.9, 200)
    labels = (probabilities < 0.5).astype(np.int64)
    corrected = Calibrator.fit(probabilities, labels).apply(probabilities)
    assert (np.diff(corrected) > 0).all()


def test_one_outcome_alone_changes_nothing() -> None:
    assert Calibrator.fit(np.full(50, 0.3), np.zeros(50, np.int64)) == Calibrator()


def test_a_few_rows_change_little() -> None:
    calibrator = Calibrator.fit(np.array([0.2, 0.8]), np.array([1, 0]))
    assert calibrator.apply(np.array([0.5]))[0] == pytest.approx(0.5, abs=0.05)


def test_certain_probabilities_stay_finite() -> None:
    probabilities, labels = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0, 1, 1, 0])
    assert np.isfinite(Calibrator.fit(probabilities, labels).apply(probabilities)).all()


def test_calibrator_read_back_is_equal() -> None:
    calibrator = Calibrator(slope=0.1 + 0.2, intercept=-1 / 3)
    assert Calibrator.from_json(calibrator.to_json()) == calibrator

"""Temperature scaling."""

import numpy as np
import pytest

from app.model.evaluation import log_loss
from app.model.temperature import Temperature


def overconfident(number: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """Give probabilities [B, 4] that a slope puts right, and outcomes."""
    chance = np.random.default_rng(1)
    logits = chance.normal(0, 1.5, (number, 4))
    right = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (right.cumsum(1) < chance.random(number)[:, None]).sum(1)
    wrong = right ** (1 / slope)
    return wrong / wrong.sum(1, keepdims=True), labels


@pytest.mark.parametrize("slope", [0.3, 1.0, 2.5])
def test_fit_finds_the_temperature_of_several_classes(slope: float) -> None:
    probabilities, labels = overconfident(30_000, slope)
    calibrator = Temperature.fit(probabilities, labels)
    assert calibrator.slope == pytest.approx(slope, rel=0.03)


def test_corrected_probabilities_add_up_and_keep_the_likeliest_class() -> None:
    probabilities, labels = overconfident(5_000, 0.3)
    corrected = Temperature.fit(probabilities, labels).apply(probabilities)
    np.testing.assert_allclose(corrected.sum(1), 1, atol=1e-12)
    np.testing.assert_array_equal(corrected.argmax(1), probabilities.argmax(1))


def test_no_other_slope_has_a_lower_loss() -> None:
    probabilities, labels = overconfident(30_000, 0.4)
    best = Temperature.fit(probabilities, labels)

    def loss(slope: float) -> float:
        named = Temperature(slope=slope).apply(probabilities)[np.arange(len(labels)), labels]
        return float(-np.log(named).mean())

    assert loss(best.slope) < min(loss(best.slope * 1.05), loss(best.slope / 1.05), loss(1.0))


def test_two_outcomes_are_two_classes() -> None:
    chance = np.random.default_rng(2)
    logits = chance.normal(0, 2, 20_000)
    labels = (chance.random(20_000) < 1 / (1 + np.exp(-logits / 2))).astype(np.int64)
    positive = 1 / (1 + np.exp(-logits))
    one, two = (
        Temperature.fit(p, labels) for p in (positive, np.stack([1 - positive, positive], 1))
    )
    assert one.slope == pytest.approx(0.5, abs=0.02)
    assert one.slope == pytest.approx(two.slope, rel=1e-6)
    pairs = two.apply(np.stack([1 - positive, positive], 1))
    np.testing.assert_allclose(one.apply(positive), pairs[:, 1], atol=1e-7)
    assert log_loss(labels, one.apply(positive)) < log_loss(labels, positive)


@pytest.mark.parametrize("scale", [0.01, 60.0])
def test_fit_settles_for_extreme_probabilities(scale: float) -> None:
    probabilities, labels = overconfident(2_000, 1 / scale)
    calibrator = Temperature.fit(probabilities, labels)
    assert calibrator.slope >= 0.05
    assert np.isfinite(calibrator.apply(np.array([[1.0, 0.0, 0.0, 0.0]]))).all()


def test_predictions_worse_than_chance_keep_their_order() -> None:
    probabilities = np.linspace(0.01, 0.99, 500)
    corrected = Temperature.fit(probabilities, probabilities < 0.5).apply(probabilities)
    assert (np.diff(corrected) > 0).all()


def test_probabilities_that_are_all_equal_change_nothing() -> None:
    assert Temperature.fit(np.full((30, 3), 1 / 3), np.arange(30) % 3).slope == pytest.approx(1)


@pytest.mark.parametrize("number", [0, 20])
def test_one_outcome_alone_changes_nothing(number: int) -> None:
    assert Temperature.fit(np.full((number, 3), 1 / 3), np.zeros(number, int)) == Temperature()


def test_few_rows_change_little() -> None:
    calibrator = Temperature.fit(np.array([0.9, 0.1]), np.array([0, 1]))
    assert 0.3 < calibrator.slope < 1

"""The kinds of calibrators: which is fitted, and that each is read back."""

import numpy as np
import pytest
from pydantic import ValidationError

from app.model.calibration import (
    Calibrator,
    Correction,
    Isotonic,
    Linear,
    Temperature,
    Unchanged,
    fit_calibrator,
    read_calibrator,
)

CHANCE = np.random.default_rng(1)
SCORES = CHANCE.random(4000)
# A step: no line on the logit comes near it.
STEPPED = (CHANCE.random(4000) < 0.1 + 0.8 * (SCORES > 0.6)).astype(np.int64)
RIGHT = (CHANCE.random(4000) < SCORES).astype(np.int64)
MOVED = (CHANCE.random(4000) < 1 / (1 + np.exp(-np.log(SCORES / (1 - SCORES)) - 1.5))).astype(int)
CLASSES = np.stack([SCORES / 2, SCORES / 2, 1 - SCORES], 1)


@pytest.mark.parametrize(
    "calibrator",
    [
        Calibrator(slope=0.1 + 0.2, intercept=-1 / 3),
        Temperature(slope=1 / 3),
        fit_calibrator("isotonic", SCORES, STEPPED),
        fit_calibrator("auto", SCORES, STEPPED),
        Linear(slope=0.1 + 0.2, intercept=7.0),
        Unchanged(reason="asked for"),
    ],
    ids=lambda calibrator: type(calibrator).__name__,
)
def test_every_kind_is_read_back_equal(calibrator: Correction) -> None:
    again = read_calibrator(calibrator.to_json())
    assert again == calibrator
    assert type(again) is type(calibrator)
    np.testing.assert_array_equal(again.apply(SCORES), calibrator.apply(SCORES))


def test_platts_file_is_the_bytes_that_it_has_always_been() -> None:
    written = b'{\n "slope": 0.75,\n "intercept": -0.5\n}'
    assert Calibrator(slope=0.75, intercept=-0.5).to_json() == written
    assert read_calibrator(written) == Calibrator(slope=0.75, intercept=-0.5)
    fitted = fit_calibrator("platt", SCORES, STEPPED)
    assert fitted.to_json() == Calibrator.fit(SCORES, STEPPED).to_json()


@pytest.mark.parametrize(
    "content",
    [
        b'{"kind": "magic"}',
        b'{"kind": "isotonic"}',
        b'{"kind": "temperature", "slope": 0}',
        b'{"kind": "temperature", "slope": 1, "intercept": 2}',
        b"[]",
        b"{",
    ],
)
def test_what_is_no_calibrator_is_refused(content: bytes) -> None:
    with pytest.raises(ValidationError):
        read_calibrator(content)


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("platt", Calibrator),
        ("temperature", Temperature),
        ("isotonic", Isotonic),
        ("none", Unchanged),
    ],
)
def test_the_kind_that_is_asked_for_is_fitted(kind: str, made: type) -> None:
    calibrator = fit_calibrator(kind, SCORES, STEPPED)
    assert type(calibrator) is made
    assert not calibrator.reason


def test_isotonic_gives_way_to_platt_on_few_rows_and_says_why() -> None:
    calibrator = fit_calibrator("isotonic", SCORES[:300], STEPPED[:300])
    assert isinstance(calibrator, Calibrator)
    assert calibrator.slope == Calibrator.fit(SCORES[:300], STEPPED[:300]).slope
    assert "needs 1000 rows with 50 of either outcome, got 300" in calibrator.reason
    assert calibrator.reason.endswith("platt instead")


@pytest.mark.parametrize(
    ("labels", "chosen"), [(STEPPED, Isotonic), (RIGHT, Unchanged), (MOVED, Calibrator)]
)
def test_auto_takes_the_simplest_kind_that_is_good_enough(labels: np.ndarray, chosen: type) -> None:
    calibrator = fit_calibrator("auto", SCORES, labels)
    assert type(calibrator) is chosen
    assert calibrator.reason.startswith("auto: loss in 5 folds: none 0.")
    assert calibrator.to_json() == fit_calibrator("auto", SCORES, labels).to_json()


def test_auto_says_which_kind_had_too_few_rows() -> None:
    calibrator = fit_calibrator("auto", SCORES[:500], MOVED[:500])
    assert isinstance(calibrator, Calibrator)
    assert "isotonic needs 1000 rows" in calibrator.reason


@pytest.mark.parametrize("number", [0, 1, 2, 7])
@pytest.mark.parametrize("kind", ["platt", "temperature", "isotonic", "none", "auto"])
def test_hardly_any_rows_still_give_a_calibrator(kind: str, number: int) -> None:
    corrected = fit_calibrator(kind, SCORES[:number], STEPPED[:number]).apply(SCORES)
    assert np.isfinite(corrected).all()


@pytest.mark.parametrize(
    ("task", "predictions", "made"),
    [
        ("binary", SCORES, Calibrator),
        ("multiclass", CLASSES, Temperature),
        ("regression", SCORES, Linear),
        ("ranking", SCORES, Unchanged),
    ],
)
def test_platt_stands_for_the_usual_kind_of_every_task(
    task: str, predictions: np.ndarray, made: type
) -> None:
    calibrator = fit_calibrator("platt", predictions, STEPPED, task)
    assert type(calibrator) is made
    assert not calibrator.reason
    assert calibrator.apply(predictions).shape == predictions.shape


def test_a_kind_of_another_task_gives_way_and_says_so() -> None:
    calibrator = fit_calibrator("isotonic", CLASSES, STEPPED)
    assert isinstance(calibrator, Temperature)
    assert calibrator.reason == "isotonic is not for multiclass: temperature instead"


def test_auto_leaves_right_values_alone_and_mends_wrong_ones() -> None:
    noise = CHANCE.normal(0, 0.1, len(SCORES))
    assert isinstance(fit_calibrator("auto", SCORES, SCORES + noise, "regression"), Unchanged)
    assert isinstance(fit_calibrator("auto", SCORES, 2 * SCORES + noise, "regression"), Linear)


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no kind beta"):
        fit_calibrator("beta", SCORES, STEPPED)

"""Two runs compared: the verdict, what was expected, and why."""

from typing import Any

import numpy as np
import orjson
import pytest
from safetensors.numpy import save

from app.contracts.circumstances import Difference, Effect
from app.training.repeating import MadeRun, compare

EVALUATION: dict[str, Any] = {
    "num_rows": 100,
    "roc_auc": {"value": 0.7, "low": 0.68, "high": 0.72},
    "log_loss": 0.4,
}


def made(
    run: str = "first",
    weight: float = 1.0,
    auc: float = 0.7,
    losses: tuple[float, ...] = (0.5, 0.4),
    refit: tuple[float, ...] = (0.3,),
    **files: bytes,
) -> MadeRun:
    card = {
        "epochs": [{"number": i + 1, "train_loss": each} for i, each in enumerate(losses)],
        "refit_epochs": [{"number": i + 1, "train_loss": each} for i, each in enumerate(refit)],
    }
    weights = {"a": np.array([0.0, weight], np.float32), "b": np.zeros((0, 2), np.float32)}
    contents = {
        "weights.safetensors": save(weights),
        "card.json": orjson.dumps(card),
        "encoder.json": b"{}",
        **files,
    }
    evaluation = {**EVALUATION, "roc_auc": {**EVALUATION["roc_auc"], "value": auc}}
    digest = str(hash(tuple(sorted(contents.items()))))
    return MadeRun(run, digest, contents, evaluation)


def difference(effect: Effect) -> Difference:
    return Difference(name="thing", first="1", second="2", effect=effect)


def test_equal_runs_are_bit_equal_as_expected() -> None:
    found = compare(made(), made("again"), [difference("none")])
    assert (found.verdict, found.expected, found.as_expected) == ("bit-equal", "bit-equal", True)
    assert found.bundle_equal
    assert found.largest_weight_difference == 0.0
    assert found.parted_at is None
    assert found.reasons[0] == "the weights are bit-equal"


def test_a_bit_that_nothing_explains_is_no_repetition() -> None:
    found = compare(made(), made("again", weight=1.25), [])
    assert (found.verdict, found.as_expected) == ("within tolerance", False)
    assert found.largest_weight_difference == 0.25
    assert "nothing that could change a bit differs, and yet" in found.reasons[-1]


@pytest.mark.parametrize(("effect", "auc", "as_expected"), [
    ("bits", 0.71, True),
    ("bits", 0.73, False),
    ("model", 0.73, True),
])  # fmt: skip
def test_what_differs_decides_how_far_figures_may_be_apart(
    effect: Effect, auc: float, as_expected: bool
) -> None:
    found = compare(made(), made("again", weight=2.0, auc=auc), [difference(effect)])
    assert found.as_expected is as_expected
    assert found.verdict == ("within tolerance" if auc == 0.71 else "different")
    assert "thing (1, now 2)" in found.reasons[-1]


def test_the_tolerance_is_the_interval_or_what_was_set_and_says_which() -> None:
    again = made("again", weight=2.0, auc=0.715)
    by_name = {pair.name: pair for pair in compare(made(), again, []).figures}
    assert set(by_name) == {"roc_auc", "log_loss"}
    assert by_name["roc_auc"].tolerance == pytest.approx(0.02)
    assert by_name["roc_auc"].stated_by == "the interval"
    assert by_name["log_loss"].stated_by == "default"
    strict = compare(made(), again, [difference("bits")], tolerance=0.001)
    assert (strict.verdict, strict.as_expected) == ("different", False)
    assert any("roc_auc is 0.7150, was 0.7000" in reason for reason in strict.reasons)


@pytest.mark.parametrize(("changes", "where"), [
    ({"losses": (0.5, 0.41)}, "search 2"),
    ({"losses": (0.5, 0.4, 0.4)}, "search 3"),
    ({"refit": (0.31,)}, "refit 1"),
    ({"losses": (0.51, 0.4), "refit": (0.31,)}, "search 1"),
])  # fmt: skip
def test_the_first_epoch_where_losses_part_is_named(
    changes: dict[str, tuple[float, ...]], where: str
) -> None:
    found = compare(made(), made("again", weight=2.0, **changes), [])  # type: ignore[arg-type]
    assert found.parted_at == where


def test_equal_weights_with_another_encoder_are_not_what_was_asked() -> None:
    found = compare(made(), made("again", **{"encoder.json": b"[]"}), [])
    assert (found.verdict, found.as_expected) == ("bit-equal", False)
    assert found.unequal_files == ("encoder.json",)
    card = compare(made(), made("again", losses=(0.5, 0.4, 0.4)), [])
    assert card.as_expected


def test_weights_of_other_shapes_have_no_distance() -> None:
    other = {"weights.safetensors": save({"a": np.zeros(3, np.float32)})}
    found = compare(made(), made("again", **other), [difference("model")])
    assert found.largest_weight_difference is None
    assert "cannot be subtracted" in found.reasons[0]
    nothing = compare(made(), MadeRun("b", "2", {"card.json": b"{}"}, EVALUATION), [])
    assert (nothing.weights_equal, nothing.largest_weight_difference) == (False, None)


def test_trees_are_compared_by_their_bytes() -> None:
    kept = {name: content for name, content in made().files.items() if "weights" not in name}
    runs = [
        MadeRun("a", each.decode(), {**kept, "trees.json": each}, EVALUATION)
        for each in (b"1", b"2")
    ]
    assert compare(runs[0], runs[0], []).verdict == "bit-equal"
    assert not compare(runs[0], runs[1], []).weights_equal

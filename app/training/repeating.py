"""Compare two runs: are the weights bit-equal, are the figures, and what do the runs not share?

Knows what a finished run leaves behind; knows nothing of Ray, of where it lies, or of how the
second one was made. `compare` is pure and gives its verdict with reasons in words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from pydantic import Field
from safetensors.numpy import load

from app.contracts.circumstances import Difference
from app.contracts.rows import Frozen
from app.model.bundle import LEARNED
from app.model.networks import WEIGHTS

CARD = "card.json"
# Of a figure without an interval, in its own unit.
PLAIN_TOLERANCE = 0.01

Verdict = Literal["bit-equal", "within tolerance", "different"]
_ORDER: tuple[Verdict, ...] = ("bit-equal", "within tolerance", "different")


@dataclass(frozen=True)
class MadeRun:
    """What a finished run came to."""

    run: str
    digest: str
    files: Mapping[str, bytes]
    """Of the bundle, verified."""
    evaluation: Mapping[str, Any]
    """The version's evaluation as JSON: numbers, and figures with `value`, `low` and `high`."""

    @property
    def epochs(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The epochs on the card, each with its name."""
        card = orjson.loads(self.files[CARD])
        for stage, key in (("search", "epochs"), ("refit", "refit_epochs")):
            for epoch in card.get(key, ()):
                yield f"{stage} {epoch['number']}", epoch


class FigurePair(Frozen):
    """One figure of both runs."""

    name: str
    first: float
    second: float
    tolerance: float
    stated_by: Literal["training.repeat_tolerance", "the interval", "default"]

    @property
    def is_within(self) -> bool:
        """Tell whether the second lies within the tolerance of the first."""
        return abs(self.second - self.first) <= self.tolerance


class Repetition(Frozen):
    """What repeating a run came to."""

    first: str
    second: str
    verdict: Verdict
    expected: Verdict | Literal["anything"] = Field(
        description="The least that the differences named below allow for."
    )
    as_expected: bool
    weights_equal: bool
    bundle_equal: bool
    first_digest: str
    second_digest: str
    unequal_files: tuple[str, ...] = ()
    largest_weight_difference: float | None = Field(
        None, description="Absent where the weights have other names or shapes, and for trees."
    )
    parted_at: str | None = Field(None, description="The first epoch whose losses are not equal.")
    figures: tuple[FigurePair, ...]
    differences: tuple[Difference, ...]
    reasons: tuple[str, ...]


def compare(
    first: MadeRun,
    second: MadeRun,
    differences: Sequence[Difference],
    tolerance: float | None = None,
) -> Repetition:
    """Compare a run with its repetition.

    `differences` are those of settings, rows and circumstances; what they may change decides what
    is expected. Figures may be off by `tolerance`, in their own unit; without it, by half the width
    of the interval that the first run gives them, or by PLAIN_TOLERANCE where it gives none.
    """
    weights_equal = _learned(first.files) == _learned(second.files)
    unequal = tuple(
        name
        for name in sorted({*first.files, *second.files})
        if first.files.get(name) != second.files.get(name)
    )
    figures = tuple(_pairs(first.evaluation, second.evaluation, tolerance))
    verdict = _verdict(weights_equal, figures)
    expected = _expected(differences)
    as_expected = expected == "anything" or _ORDER.index(verdict) <= _ORDER.index(expected)
    if expected == "bit-equal" and set(unequal) - {CARD}:
        as_expected = False
    largest = _largest_difference(first.files, second.files)
    parted_at = _parted_at(first, second)
    return Repetition(
        first=first.run,
        second=second.run,
        verdict=verdict,
        expected=expected,
        as_expected=as_expected,
        weights_equal=weights_equal,
        bundle_equal=first.digest == second.digest,
        first_digest=first.digest,
        second_digest=second.digest,
        unequal_files=unequal,
        largest_weight_difference=largest,
        parted_at=parted_at,
        figures=figures,
        differences=tuple(differences),
        reasons=(
            _about_weights(weights_equal, largest, parted_at),
            *_about_files(first, second, unequal),
            *([] if weights_equal else _about_figures(figures)),
            _about_expectation(expected, as_expected, differences),
        ),
    )


def _learned(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Give what was learned: a network's weights, or trees."""
    return {name: files[name] for name in LEARNED if name in files}


def _verdict(weights_equal: bool, figures: Sequence[FigurePair]) -> Verdict:
    if not all(pair.is_within for pair in figures):
        return "different"
    return "bit-equal" if weights_equal else "within tolerance"


def _expected(differences: Sequence[Difference]) -> Verdict | Literal["anything"]:
    effects = {difference.effect for difference in differences}
    if "model" in effects:
        return "anything"
    return "within tolerance" if "bits" in effects else "bit-equal"


def _largest_difference(first: Mapping[str, bytes], second: Mapping[str, bytes]) -> float | None:
    """Give the largest absolute difference of two weights; None when they cannot be paired."""
    if WEIGHTS not in first or WEIGHTS not in second:
        return None
    one, other = load(first[WEIGHTS]), load(second[WEIGHTS])
    shapes = [{name: array.shape for name, array in arrays.items()} for arrays in (one, other)]
    if shapes[0] != shapes[1]:
        return None
    gaps = (np.abs(one[name].astype(np.float64) - other[name]) for name in one if one[name].size)
    return max((float(gap.max()) for gap in gaps), default=0.0)


def _parted_at(first: MadeRun, second: MadeRun) -> str | None:
    """Name the first epoch that differs; one that only one of the runs has differs too."""
    epochs = dict(first.epochs), dict(second.epochs)
    names = sorted({*epochs[0], *epochs[1]}, key=_in_time)
    return next((name for name in names if epochs[0].get(name) != epochs[1].get(name)), None)


def _in_time(name: str) -> tuple[bool, int]:
    stage, _, number = name.partition(" ")
    return stage == "refit", int(number)


def _pairs(
    first: Mapping[str, Any], second: Mapping[str, Any], tolerance: float | None
) -> Iterator[FigurePair]:
    numbers = dict(_figures(first)), dict(_figures(second))
    for name, (value, half_width) in numbers[0].items():
        if name not in numbers[1]:
            continue
        if tolerance is not None:
            allowed, by = tolerance, "training.repeat_tolerance"
        elif half_width is not None:
            allowed, by = half_width, "the interval"
        else:
            allowed, by = PLAIN_TOLERANCE, "default"
        yield FigurePair.model_validate(
            {
                "name": name,
                "first": value,
                "second": numbers[1][name][0],
                "tolerance": allowed,
                "stated_by": by,
            }
        )


def _figures(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, float | None]]]:
    """Give each figure with half the width of its interval, if it has one; counts are none."""
    for name, value in evaluation.items():
        if isinstance(value, float):
            yield name, (value, None)
        elif isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys():
            yield name, (value["value"], (value["high"] - value["low"]) / 2)


def _about_weights(equal: bool, largest: float | None, parted_at: str | None) -> str:
    if equal:
        return "the weights are bit-equal"
    gap = "cannot be subtracted" if largest is None else f"differ by up to {largest:.3g}"
    since = f"; losses part at {parted_at}" if parted_at else "; the losses are the same"
    return f"the weights {gap}{since}"


def _about_files(first: MadeRun, second: MadeRun, unequal: Sequence[str]) -> list[str]:
    if first.digest == second.digest:
        return [f"the bundles are one: {first.digest[:12]}"]
    others = [name for name in unequal if name not in LEARNED]
    return [f"other files of the bundle that differ: {', '.join(others)}"] if others else []


def _about_figures(figures: Sequence[FigurePair]) -> list[str]:
    outside = [pair for pair in figures if not pair.is_within]
    if not outside:
        return [f"all {len(figures)} figures are within their tolerance"]
    return [
        f"{pair.name} is {pair.second:.4f}, was {pair.first:.4f}: more than {pair.tolerance:.4f} "
        "apart"
        for pair in outside
    ]


def _about_expectation(expected: str, as_expected: bool, differences: Sequence[Difference]) -> str:
    named = [
        f"{each.name} ({each.first}, now {each.second})"
        for each in differences
        if each.effect != "none"
    ]
    if not named:
        told = "nothing that could change a bit differs"
        return told if as_expected else f"{told}, and yet the runs do not agree"
    told = f"{len(named)} differ that may change it: {', '.join(named[:8])}"
    return told if as_expected else f"{told}; they explain no more than '{expected}'"

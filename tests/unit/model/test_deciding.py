"""However rows come together, a row's figure is within 1e-6 and its decision is the same."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from app.contracts.rows import Contract
from app.model.bundle import ModelBundle
from app.model.calibration import Calibrator, Correction, Isotonic, Temperature, Unchanged
from app.model.networks import TabularNetwork, frozen
from app.model.tasks import BinaryTask, MulticlassTask
from app.sections import EvaluationConfig, NetworkConfig
from tests.learning_world import make_bundle, make_rows

ROWS = make_rows(1000)
PLAIN = make_bundle(ROWS)
WAYS = (1, 7, 16, 17, 1000)
NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {"hidden": 32, "num_layers": 2},
    "deep": {"hidden": 16, "num_layers": 4},
    "ensemble": {"hidden": 24, "num_layers": 2, "num_members": 5},
    "wide": {"hidden": 192, "num_layers": 2, "num_members": 4},
}
CALIBRATORS: tuple[Correction, ...] = (
    Calibrator(slope=1.7, intercept=-0.3),
    Temperature(slope=0.6),
    Unchanged(),
    # Steep: a thousandth of the scores is half of the probabilities.
    Isotonic(scores=(0.3, 0.5, 0.501, 0.9), values=(0.1, 0.2, 0.7, 0.8)),
)


def bundle_of(network: str, seed: int, calibrator: Correction, **others: Any) -> ModelBundle:
    torch.manual_seed(seed)
    config = NetworkConfig.model_validate({"embedding": 4, **NETWORKS[network]})
    task = others.get("task", BinaryTask())
    made = TabularNetwork(config, PLAIN.encoder.shape, task)
    with torch.no_grad():
        made.head_KHO.mul_(6)
    contract = others.get("contract", PLAIN.contract)
    return replace(PLAIN, network=frozen(made), calibrator=calibrator, contract=contract)


def by_every_way(bundle: ModelBundle, rows: pa.Table) -> np.ndarray:
    """Predict rows in companies of several sizes, and as plain values: [ways, rows, ...]."""
    ways = [
        np.concatenate(
            [bundle.predict(rows.slice(first, size)) for first in range(0, len(rows), size)]
        )
        for size in WAYS
    ]
    return np.stack(ways)


@pytest.mark.parametrize("network", list(NETWORKS))
@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda each: type(each).__name__)
def test_no_company_moves_a_row_over_the_threshold(network: str, calibrator: Correction) -> None:
    bundle = bundle_of(network, 1, calibrator)
    rows = ROWS.slice(0, 120)
    figures = by_every_way(bundle, rows)
    raw = by_every_way(replace(bundle, calibrator=Unchanged()), rows)
    np.testing.assert_allclose(raw, np.broadcast_to(raw[0], raw.shape), rtol=0, atol=1e-6)
    # Thresholds that could hardly be worse: what one way or another says of some row.
    chance = np.random.default_rng(3)
    for place in chance.choice(len(rows), 4, replace=False):
        for threshold in np.unique(figures[:, place]):
            strict = replace(bundle, card={"threshold": float(threshold)})
            flagged = by_every_way(strict, rows) >= threshold
            assert (flagged == flagged[0]).all()


def test_without_care_the_ways_do_differ() -> None:
    """Else the test above could not fail."""
    bundle = bundle_of("ensemble", 1, Unchanged())
    care_free = replace(bundle, card={"threshold": None})
    figures = by_every_way(care_free, ROWS.slice(0, 300))
    differing = (figures != figures[0]).any(axis=0)
    assert differing.mean() > 0.2
    place = int(np.flatnonzero(differing)[0])
    flagged = figures[:, place] >= figures[:, place].max()
    assert flagged.any()
    assert not flagged.all()


@pytest.mark.parametrize("seed", range(4))
def test_no_company_changes_the_likeliest_class(seed: int) -> None:
    several = {"task": "multiclass", "classes": ("a", "b", "c")}
    contract = Contract.model_validate({**PLAIN.contract.model_dump(), **several})
    made = bundle_of(
        "deep", seed, Temperature(slope=0.8), task=MulticlassTask(num_outputs=3), contract=contract
    )
    assert isinstance(made.network, TabularNetwork)
    with torch.no_grad():
        # Two classes that say the same but for the rounding: every row hangs.
        made.network.head_KHO[:, :, 1] = made.network.head_KHO[:, :, 0]
        made.network.head_bias_KO[:, 1] = made.network.head_bias_KO[:, 0]
    bundle = replace(made, network=frozen(made.network))
    best = by_every_way(bundle, ROWS.slice(0, 120)).argmax(axis=2)
    assert (best == best[0]).all()


def test_rows_of_plain_values_are_decided_alike() -> None:
    bundle = bundle_of("plain", 2, Calibrator(slope=1.2))
    rows = ROWS.slice(0, 60)
    names = rows.column_names
    plain = [
        [None if v is None else v.timestamp() * 1e6 if hasattr(v, "timestamp") else v
         for v in row.values()] for row in rows.to_pylist()
    ]  # fmt: skip
    for place in range(0, 60, 7):
        threshold = float(bundle.predict(rows)[place])
        strict = replace(bundle, card={"threshold": threshold})
        together = strict.predict(rows) >= threshold
        few = np.concatenate(
            [strict.predict_rows(plain[i : i + 4], names) for i in range(0, 60, 4)]
        )
        assert ((few >= threshold) == together).all()


def test_the_threshold_is_the_cards_and_by_default_half() -> None:
    assert PLAIN.threshold == 0.5
    assert replace(PLAIN, card={"threshold": 0.25}).threshold == 0.25
    assert replace(PLAIN, card={"threshold": None}).threshold is None
    several = Contract.model_validate(
        {**PLAIN.contract.model_dump(), "task": "multiclass", "classes": ("a", "b")}
    )
    assert replace(PLAIN, contract=several).threshold is None
    costs = {"false_positive": 1.0, "false_negative": 3.0}
    given = [{}, {"threshold": 0.3}, {"flagged_share": 0.1}, {"costs": costs}]
    declared = [EvaluationConfig.model_validate(each).declared_threshold for each in given]
    assert declared == [0.5, 0.3, None, 0.25]

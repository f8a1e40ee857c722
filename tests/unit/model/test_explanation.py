"""Attributions: they add up to the prediction, whatever the model, and are what theory says."""

import importlib
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from app.contracts.rows import Column, Contract
from app.data.features import Encoder, Statistics
from app.data.profile import Profile
from app.model.bundle import ModelBundle
from app.model.calibration import Correction, Isotonic, Linear, Platt, Temperature, Unchanged
from app.model.correction import logit
from app.model.explanation import MOST_EXACT, Explainer
from app.model.networks import Network, TabularNetwork, build_network, frozen
from app.model.reference import players_of
from app.model.tasks import (
    BinaryTask,
    LearningTask,
    MulticlassTask,
    RankingTask,
    RegressionTask,
)
from app.model.trees import Trees, matrix
from app.sections import FeaturesConfig, NetworkConfig, TrainingConfig, TreesConfig
from app.training.boosting import Growth, grow, trees_of
from app.training.window import encode_rows
from tests.learning_world import CONTRACT, known_rows, make_encoder, make_rows

ROWS = make_rows(600)
ENCODER = make_encoder(ROWS)
BROKEN_LINE = Isotonic(scores=(0.2, 0.5, 0.52, 0.9), values=(0.1, 0.2, 0.6, 0.9))


def network_of(
    encoder: Encoder, task: LearningTask | None = None, *, num_members: int = 1, scale: float = 3.0
) -> TabularNetwork:
    """A network whose figures spread: it would take training to make one that matters."""
    torch.manual_seed(5)
    shape = NetworkConfig(hidden=16, num_layers=2, embedding=4, num_members=num_members)
    network = TabularNetwork(shape, encoder.shape, task)
    with torch.no_grad():
        network.embedding.weight.mul_(10)
        network.head_KHO.mul_(scale)
    return network


def bundle_of(
    network: Network | Trees,
    calibrator: Correction | None = None,
    *,
    encoder: Encoder = ENCODER,
    rows: pa.Table = ROWS,
    contract: Contract = CONTRACT,
) -> ModelBundle:
    return ModelBundle(
        contract=contract,
        encoder=encoder,
        network=frozen(network) if isinstance(network, Network) else network,
        calibrator=calibrator or Unchanged(),
        profile=Profile.for_encoder(encoder).add(rows),
        card={},
    )


def numbers_world(values: dict[str, Any]) -> tuple[Contract, pa.Table, Encoder]:
    """Rows of plain numbers, one column each."""
    columns = (
        Column(name="id", kind="identifier", feature=False),
        Column(name="at", kind="time", feature=False),
        *(Column(name=name, kind="number") for name in values),
    )
    contract = Contract(id="id", event_time="at", label="y", columns=columns)
    table = pa.table({name: pa.array(column, pa.float64()) for name, column in values.items()})
    config = FeaturesConfig(num_bins=8)
    return contract, table, Encoder.fit(Statistics.collect(table, contract), config)


def reference_rows(bundle: ModelBundle, like: pa.Table) -> pa.Table:
    """The reference as a table of rows: what a client would send."""
    values = Explainer(bundle).reference.values
    return pa.table(
        {
            field.name: pa.array([values.get(field.name)] * len(like), field.type)
            for field in like.schema
        }
    )


def exact_shares(bundle: ModelBundle, row: pa.Table, columns: list[str]) -> dict[str, float]:
    """Shapley values by their definition, over all sets of columns, mixing tables."""
    reference = reference_rows(bundle, row)

    def worth(chosen: frozenset[str]) -> float:
        mixed = pa.table({n: (row if n in chosen else reference)[n] for n in row.column_names})
        return float(logit(bundle.predict(mixed))[0])

    worths = {
        frozenset(chosen): worth(frozenset(chosen))
        for size in range(len(columns) + 1)
        for chosen in itertools.combinations(columns, size)
    }
    shares = dict.fromkeys(columns, 0.0)
    for chosen, value in worths.items():
        for column in set(columns) - chosen:
            weight = 1 / (len(columns) * math.comb(len(columns) - 1, len(chosen)))
            shares[column] += weight * (worths[chosen | {column}] - value)
    return shares


@pytest.mark.parametrize("num_members", [1, 4])
@pytest.mark.parametrize(
    "calibrator",
    [Unchanged(), Platt(slope=0.7, intercept=-0.4), Temperature(slope=1.6), BROKEN_LINE],
    ids=lambda calibrator: calibrator.kind,
)
def test_reference_and_shares_add_up_to_the_calibrated_log_odds(
    calibrator: Correction, num_members: int
) -> None:
    bundle = bundle_of(network_of(ENCODER, num_members=num_members), calibrator)
    rows = ROWS.slice(0, 12)
    explained = Explainer(bundle).explain(rows)
    alone = np.array([bundle.predict(rows.slice(i, 1))[0] for i in range(12)])
    np.testing.assert_array_equal([one.worth for one in explained], logit(alone))
    expected_reference = logit(bundle.predict(reference_rows(bundle, rows)))
    np.testing.assert_allclose([o.reference for o in explained], expected_reference, atol=1e-5)
    for one in explained:
        total = one.reference + sum(share.value for share in one.shares)
        assert abs(one.worth - total) <= one.tolerance < 1e-3
    # The figures are of rows that differ, not of a saturated model.
    assert np.ptp([one.worth for one in explained]) > 0.1


@pytest.mark.parametrize(
    ("task", "calibrator"),
    [
        (RegressionTask(mean=1e6, scale=4e4), Linear(slope=0.9, intercept=50.0)),
        (RankingTask(), Unchanged()),
    ],
    ids=["regression", "ranking"],
)
def test_shares_add_up_in_the_unit_of_other_tasks(
    task: LearningTask, calibrator: Correction
) -> None:
    given = CONTRACT.model_dump() | {"task": task.kind}
    if task.kind == "ranking":
        given["group"] = "order"
    contract = Contract.model_validate(given)
    bundle = bundle_of(network_of(ENCODER, task), calibrator, contract=contract)
    rows = ROWS.slice(0, 6)
    for one, predicted in zip(Explainer(bundle).explain(rows), bundle.predict(rows), strict=True):
        assert one.worth == pytest.approx(predicted, rel=1e-6)
        assert abs(one.residual) <= one.tolerance
        assert max(abs(share.value) for share in one.shares) > 0


def test_shares_of_a_class_add_up_to_its_log_odds_and_the_likeliest_is_the_usual() -> None:
    classes = ("calm", "busy", "full")
    given = CONTRACT.model_dump() | {"task": "multiclass", "classes": classes}
    contract = Contract.model_validate(given)
    network = network_of(ENCODER, MulticlassTask(num_outputs=3), num_members=2)
    bundle = bundle_of(network, Temperature(slope=1.4), contract=contract)
    explainer, row = Explainer(bundle), ROWS.slice(3, 1)
    predicted = bundle.predict(row)[0]
    by_class = {name: explainer.explain(row, name)[0] for name in classes}
    for place, name in enumerate(classes):
        assert by_class[name].worth == logit(predicted[place : place + 1])[0]
        assert abs(by_class[name].residual) <= by_class[name].tolerance
    assert explainer.explain(row)[0] == by_class[classes[int(predicted.argmax())]]
    with pytest.raises(ValueError, match="class: got idle; the classes are calm, busy, full"):
        explainer.explain(row, "idle")


def test_the_reference_is_explained_by_nothing() -> None:
    bundle = bundle_of(network_of(ENCODER), Platt(slope=0.8, intercept=0.1))
    one = Explainer(bundle).explain(reference_rows(bundle, ROWS.slice(0, 1)))[0]
    assert [share.value for share in one.shares if share.column != "weight"] == [0.0] * 4
    # A median is told as a float64 and encoded as a float32: it may come back a rounding off.
    assert one.worth == pytest.approx(one.reference, abs=1e-5)


def test_the_reference_is_the_middle_of_the_rows_of_training() -> None:
    middle = Explainer(bundle_of(network_of(ENCODER))).reference.values
    weights = ROWS["weight"].drop_null().to_numpy()
    assert middle["weight"] == pytest.approx(float(np.median(weights)), rel=0.02)
    assert middle["stops"] == np.median(ROWS["stops"].to_numpy())
    assert middle["depot"] == "north"
    counted = ROWS["driver"].value_counts().to_pylist()
    assert middle["driver"] == max(counted, key=lambda one: one["counts"])["values"]
    assert middle["due"] is None


def test_a_column_that_was_mostly_null_is_null_in_the_middle() -> None:
    mostly = pa.array([None, None, 4.0] * 200, pa.float64())
    rows = ROWS.set_column(ROWS.schema.get_field_index("weight"), "weight", mostly)
    encoder = make_encoder(rows)
    bundle = bundle_of(network_of(encoder), encoder=encoder, rows=rows)
    assert Explainer(bundle).reference.values["weight"] is None
    without = Explainer(bundle).explain(rows.slice(0, 1))[0]
    assert {s.column: s.value for s in without.shares}["weight"] == 0.0


def test_shares_are_shapley_values_by_their_definition() -> None:
    bundle = bundle_of(network_of(ENCODER, num_members=2), Platt(slope=1.3, intercept=0.2))
    columns = ["weight", "stops", "due", "depot", "driver"]
    assert len(columns) == MOST_EXACT
    for place in (0, 7, 40):
        row = ROWS.slice(place, 1)
        one = Explainer(bundle).explain(row)[0]
        expected = exact_shares(bundle, row, columns)
        assert one.is_exact
        for share in one.shares:
            assert share.value == pytest.approx(expected[share.column], abs=2e-5)
            assert share.error == 0
        assert sum(abs(value) for value in expected.values()) > 0.3


def test_drawn_orders_are_as_far_off_as_their_standard_errors_say() -> None:
    chance = np.random.default_rng(4)
    names = [f"x{i}" for i in range(9)]
    contract, table, encoder = numbers_world({name: chance.normal(size=300) for name in names})
    network = network_of(encoder, scale=6.0)
    bundle = bundle_of(network, encoder=encoder, rows=table, contract=contract)
    misses = []
    for place in range(3):
        row = table.slice(place, 1)
        one = Explainer(bundle).explain(row)[0]
        assert not one.is_exact
        assert one.num_orders >= 16
        assert abs(one.residual) <= one.tolerance
        expected = exact_shares(bundle, row, names)
        misses += [(s.value - expected[s.column]) / max(s.error, 1e-9) for s in one.shares]
    assert np.abs(misses).max() < 5
    assert 0.3 < np.std(misses) < 2


def test_a_column_that_the_network_ignores_gets_nothing() -> None:
    network = network_of(ENCODER)
    source = network.get_buffer("source_D")
    stops = [number.name for number in ENCODER.numbers].index("stops")
    with torch.no_grad():
        network.first.weight[: len(source)][source == stops] = 0
    explained = Explainer(bundle_of(network)).explain(ROWS.slice(0, 5))
    shares = [{share.column: share.value for share in one.shares} for one in explained]
    assert max(abs(each["stops"]) for each in shares) < 1e-6
    assert max(abs(each["depot"]) for each in shares) > 1e-2


def test_columns_that_play_the_same_part_get_the_same_share() -> None:
    chance = np.random.default_rng(1)
    first = chance.normal(size=300)
    values = {"a": first, "b": first, "c": chance.normal(size=300)}
    contract, table, encoder = numbers_world(values)
    network = network_of(encoder)
    source = network.get_buffer("source_D")
    with torch.no_grad():
        network.first.weight[source == 1] = network.first.weight[source == 0]
    bundle = bundle_of(network, encoder=encoder, rows=table, contract=contract)
    for one in Explainer(bundle).explain(table.slice(0, 5)):
        a, b, c = (share.value for share in one.shares)
        assert a == pytest.approx(b, abs=1e-6)
        assert a != pytest.approx(c, abs=1e-3)


def test_the_same_row_gets_the_same_bits_whatever_stands_beside_it() -> None:
    chance = np.random.default_rng(8)
    values = {f"x{i}": chance.normal(size=200) for i in range(8)}
    contract, table, encoder = numbers_world(values)
    network = network_of(encoder, num_members=3)
    bundle = bundle_of(network, encoder=encoder, rows=table, contract=contract)
    together = Explainer(bundle).explain(table.slice(0, 4))
    torch.manual_seed(99)
    again = Explainer(replace(bundle))
    assert [again.explain(table.slice(i, 1))[0] for i in range(4)] == together


def test_trees_of_depth_one_get_what_xgboosts_own_attributions_differ_by() -> None:
    """Stumps do not interact: a Shapley value is what its column's own sum changes by."""
    rows = encode_rows(ENCODER, known_rows(ROWS))
    trees_config = TreesConfig(trees_per_epoch=20, max_depth=1, learning_rate=0.3)
    training = TrainingConfig(model="trees", trees=trees_config, epochs=2, patience=2)
    places = np.arange(len(rows))
    part = Growth(BinaryTask(), rows.take(places[:400]), rows.take(places[400:]), training)
    trees = trees_of(training, ENCODER.shape, part.task, grow(part).best)
    explainer = Explainer(bundle_of(trees))
    own = own_contributions(trees, ENCODER.transform(ROWS.slice(0, 8)))
    own -= own_contributions(trees, explainer.reference.encoded)
    players = players_of(ENCODER)
    owners = np.concatenate([players.of_numbers, players.of_categories])
    for contributions, one in zip(own, explainer.explain(ROWS.slice(0, 8)), strict=True):
        expected = np.bincount(owners, contributions, len(players.names))
        np.testing.assert_allclose([s.value for s in one.shares], expected, atol=1e-5)
        assert abs(one.residual) <= one.tolerance
        assert np.abs(expected).max() > 0.1


def own_contributions(trees: Trees, encoded: Any) -> np.ndarray:
    """What XGBoost itself attributes: [B, F + C], the bias left out."""
    contributions: np.ndarray = trees._booster.predict(matrix(encoded), pred_contribs=True)
    return contributions[:, :-1].astype(np.float64)


def test_a_users_own_module_is_explained_by_what_its_inputs_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_sum.py").write_text(
        "from torch import nn\n"
        "class Sum(nn.Module):\n"
        "    def __init__(self, shape, num_outputs):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(len(shape.num_bins), num_outputs)\n"
        "    def forward(self, numbers, categories):\n"
        "        return self.layer(numbers) + 0.5 * categories.sum(1, keepdim=True)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    config = NetworkConfig(module="users_sum:Sum")
    network = build_network(config, ENCODER.shape, RegressionTask())
    contract = Contract.model_validate(CONTRACT.model_dump() | {"task": "regression"})
    explainer = Explainer(bundle_of(network, contract=contract))
    row, middle = ENCODER.transform(ROWS.slice(2, 1)), explainer.reference.encoded
    weights = network.state_dict()["module.layer.weight"].numpy()[0]
    shares = {s.column: s.value for s in explainer.explain(ROWS.slice(2, 1))[0].shares}
    changes = weights * (row.numbers - middle.numbers)[0]
    assert shares["weight"] == pytest.approx(changes[0], abs=1e-5)
    assert shares["stops"] == pytest.approx(changes[1], abs=1e-5)
    assert shares["due"] == pytest.approx(changes[2:].sum(), abs=1e-5)
    codes = (row.categories - middle.categories)[0] * 0.5
    assert [shares["depot"], shares["driver"]] == pytest.approx(codes.tolist(), abs=1e-5)

"""A whole fit in process, of every task: it learns, its figures say so, its bundle comes back."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from app.config import Config
from app.contracts.records import TaskEvaluation
from app.contracts.rows import Contract
from app.model.bundle import ModelBundle
from app.training.assembly import Fitted, fit_in_process
from tests.learning_world import CONTRACT, END, make_config, make_rows

ROWS = make_rows(1500)
LEARNING = {"epochs": 15, "patience": 15, "learning_rate": 5e-3}
DEPOTS = ["north", "south", "west"]


def labelled(labels: pa.Array) -> pa.Table:
    known = pa.array([state == "known" for state in ROWS["state"].to_pylist()])
    place = ROWS.schema.get_field_index("label")
    hidden = pa.compute.if_else(known, labels, pa.scalar(None, labels.type))
    return ROWS.set_column(place, "label", hidden)


def config_for(folder: Path, training: dict[str, object], **target: object) -> Config:
    config = make_config(folder, **training)
    contract = Contract.model_validate({**CONTRACT.model_dump(), **target})
    return config.model_copy(update={"contract": contract})


def fitted(folder: Path, labels: pa.Array, model: str, **target: object) -> Fitted:
    config = config_for(folder, {**LEARNING, "model": model}, **target)
    made = fit_in_process(config, labelled(labels), END)
    digest = made.bundle.save(folder / "bundle")
    loaded = ModelBundle.load(folder / "bundle", digest)
    rows = make_rows(100, seed=5)
    np.testing.assert_allclose(loaded.predict(rows), made.bundle.predict(rows), atol=1e-6)
    assert isinstance(made.evaluation, TaskEvaluation)
    return made


@pytest.mark.parametrize("model", ["network", "trees"])
def test_classes_are_learned(tmp_path: Path, model: str) -> None:
    places = pa.array([DEPOTS.index(depot) for depot in ROWS["depot"].to_pylist()], pa.int16())
    made = fitted(tmp_path, places, model, task="multiclass", classes=tuple(DEPOTS))
    assert made.evaluation.figures["accuracy"] > 0.95
    rows = make_rows(100, seed=5)
    first = [top.places[0] for top in made.bundle.top(rows, 2)]
    assert first == made.bundle.predict(rows).argmax(1).tolist()
    assert made.bundle.predict(rows).shape == (100, 3)


@pytest.mark.parametrize("model", ["network", "trees"])
def test_a_number_is_learned_in_its_own_unit(tmp_path: Path, model: str) -> None:
    stops = ROWS["stops"].to_numpy()
    made = fitted(tmp_path, pa.array(stops * 100 + 1000), model, task="regression")
    assert made.evaluation.figures["r2"] > 0.9
    predicted = made.bundle.predict(make_rows(100, seed=5))
    assert 900 < predicted.mean() < 2200
    with pytest.raises(ValueError, match="one number a row"):
        made.bundle.top(ROWS, 3)


@pytest.mark.parametrize("model", ["network", "trees"])
def test_an_order_is_learned_within_lists(tmp_path: Path, model: str) -> None:
    relevance = pa.array(np.floor(ROWS["stops"].to_numpy() / 4))
    made = fitted(tmp_path, relevance, model, task="ranking", group="driver")
    [leading, *_] = made.evaluation.figures.values()
    assert leading > 0.8
    rows = make_rows(100, seed=5)
    scores, drivers = made.bundle.predict(rows), rows["driver"].to_pylist()
    for top in made.bundle.top(rows, 3):
        [driver] = {drivers[place] for place in top.places}
        best = max(scores[place] for place in range(100) if drivers[place] == driver)
        assert top.scores[0] == best == scores[top.places[0]]

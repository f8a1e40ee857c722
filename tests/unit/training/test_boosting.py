"""Trees behind the same bundle: they learn, resume to the byte, and predict every task."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.data.features import Encoded
from app.model.bundle import ArtifactAltered, ModelBundle
from app.model.tasks import BinaryTask, LearningTask, MulticlassTask, RankingTask, RegressionTask
from app.model.trees import Trees
from app.sections import TrainingConfig, TreesConfig
from app.training.assembly import fit_in_process
from app.training.boosting import BOOSTER, Growth, grow, trees_of
from app.training.rows import Rows
from app.training.state import FitState
from app.training.window import encode_rows
from tests.learning_world import END, known_rows, make_config, make_encoder, make_rows

TREES = TreesConfig(trees_per_epoch=5, max_depth=3, learning_rate=0.2)
TABLE = make_rows(900)
KNOWN = known_rows(TABLE)
ENCODER = make_encoder(TABLE)
ROWS = encode_rows(ENCODER, KNOWN)


def growth(task: LearningTask | None = None, rows: Rows = ROWS, **training: Any) -> Growth:
    settings = {"model": "trees", "trees": TREES, "epochs": 4, "patience": 4, **training}
    config: TrainingConfig = make_config(Path(), **settings).training
    places = np.arange(len(rows))
    return Growth(task or BinaryTask(), rows.take(places[:600]), rows.take(places[600:]), config)


def relabelled(labels: np.ndarray, groups: np.ndarray | None = None) -> Rows:
    return Rows(ROWS.encoded, labels, groups)


def predicted(state: FitState, of: Growth) -> np.ndarray:
    trees = trees_of(of.config, ENCODER.shape, of.task, state.best)
    return trees.predict(of.stop.encoded)


@pytest.mark.parametrize("interrupted_after", [1, 3, 5])
def test_a_resumed_run_grows_the_same_trees(interrupted_after: int) -> None:
    part = growth()
    states: list[FitState] = []
    whole = grow(part, on_epoch=states.append)
    kept = states[interrupted_after - 1].to_files("data")
    again = grow(part, resume=FitState.from_files(kept, "data"))
    assert again.epochs == whole.epochs
    assert again.final[BOOSTER].numpy().tobytes() == whole.final[BOOSTER].numpy().tobytes()


def test_trees_learn_a_number() -> None:
    values = ROWS.encoded.numbers[:, 1] * 30 + 100.0
    task = RegressionTask(mean=float(values.mean()), scale=float(values.std()))
    part = growth(task, relabelled(values), epochs=10, patience=10)
    error = predicted(grow(part), part) - part.stop.labels
    assert np.abs(error).mean() < values.std() / 4


def test_trees_learn_classes() -> None:
    depots = ROWS.encoded.categories[:, 0] - 2
    part = growth(MulticlassTask(num_outputs=3), relabelled(depots))
    predictions = predicted(grow(part), part)
    np.testing.assert_allclose(predictions.sum(1), 1, atol=1e-6)
    assert (predictions.argmax(1) == part.stop.labels).mean() > 0.95


def test_trees_learn_an_order_within_lists() -> None:
    groups = np.arange(len(ROWS)) % 90
    relevance = np.floor(ROWS.encoded.numbers[:, 1] / 3).astype(np.float64).clip(0)
    part = growth(RankingTask(), relabelled(relevance, groups))
    scores = predicted(grow(part), part)
    task = RankingTask()
    lists = part.stop.groups
    assert lists is not None
    learned = task.list_loss(part.stop.labels, scores, lists)
    assert learned < task.list_loss(part.stop.labels, np.zeros(len(scores)), lists)


def test_a_bundle_of_trees_is_json_on_disk_and_loads_verified(tmp_path: Path) -> None:
    config = make_config(tmp_path, model="trees", trees=TREES)
    fitted = fit_in_process(config, make_rows(), END)
    digest = fitted.bundle.save(tmp_path / "bundle")
    loaded = ModelBundle.load(tmp_path / "bundle", digest)
    assert isinstance(loaded.network, Trees)
    rows = make_rows(200, seed=4)
    np.testing.assert_array_equal(loaded.predict(rows), fitted.bundle.predict(rows))
    assert fitted.evaluation.roc_auc.value > 0.5
    assert fitted.bundle.card["num_trees"] == len(fitted.state.refit_epochs) * 5
    suffixes = {file.suffix for file in (tmp_path / "bundle").iterdir()}
    assert suffixes == {".json"}
    (tmp_path / "bundle" / "trees.json").write_bytes(b"{}")
    with pytest.raises(ArtifactAltered):
        ModelBundle.load(tmp_path / "bundle", digest)


def test_a_null_and_an_unseen_value_have_a_prediction() -> None:
    part = growth()
    trees = trees_of(part.config, ENCODER.shape, part.task, grow(part).best)
    numbers = np.full((2, ROWS.encoded.numbers.shape[1]), -1, np.float32)
    codes = np.array([[0, 0], [1, 1]])
    assert np.isfinite(trees.predict(Encoded(numbers, codes))).all()
    assert trees.predict(Encoded(numbers[:0], codes[:0])).shape == (0,)

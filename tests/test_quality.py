"""The quality benchmark's own parts: fair folds, remembered results, ranks, real contenders."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from benchmarks.tabular.contenders import Contender, Prediction, Settings
from benchmarks.tabular.ours import Ours
from benchmarks.tabular.ranks import Figures, Predicted, figures_of, mean_ranks
from benchmarks.tabular.results import Results
from benchmarks.tabular.sets import SETS, Fold, TabularSet, fixed_folds, load_set, make_set
from benchmarks.tabular.trees import LightGBM, XGBoost
from benchmarks.tabular.tuning import Bench

TIMELESS = [name for name in SETS if name not in ("happiness", "flights")]


@pytest.fixture(scope="module")
def tabular() -> TabularSet:
    """Rows whose outcome hangs on a number with nulls and on a category."""
    chance = np.random.default_rng(0)
    weight, depot = chance.normal(size=600), chance.choice(["north", "south"], 600)
    late = chance.random(600) < 1 / (1 + np.exp(-2 * weight - 2 * (depot == "south") + 1))
    weight[::17] = np.nan
    frame = pd.DataFrame({"weight": weight, "depot": depot})
    return make_set("orders", frame, pd.Series(late), fixed_folds(600))


class Counting:
    """A contender that counts what it is asked, and is best where its only setting is 0.3."""

    name = "counting"

    def __init__(self) -> None:
        self.searched: list[float] = []
        self.num_predicted = 0

    def default(self, num_known: int) -> Settings:
        return {"x": 0.9}

    def suggest(self, trial: optuna.Trial, num_known: int) -> Settings:
        return {"x": trial.suggest_float("x", 0.0, 1.0)}

    def search(self, tabular: TabularSet, fold: Fold, settings: Settings) -> float:
        self.searched.append(settings["x"])
        return abs(settings["x"] - 0.3)

    def predict(self, tabular: TabularSet, fold: Fold, settings: Settings) -> Prediction:
        self.num_predicted += 1
        return Prediction(np.linspace(0.1, 0.9, len(fold.test)), 0.5, 1)


def bench(tabular: TabularSet, contender: Contender, file: Path, code: str = "v1") -> Bench:
    return Bench(tabular, contender, Results(file), code, lambda progress: None)


@pytest.mark.parametrize("name", TIMELESS)
def test_every_row_is_predicted_once_and_never_learned_from_by_its_own_fold(name: str) -> None:
    loaded = load_set(name)
    tested = np.concatenate([fold.test for fold in loaded.folds])
    assert sorted(tested) == list(range(loaded.table.num_rows))
    for fold in loaded.folds:
        parts = [set(part.tolist()) for part in (fold.train, fold.stop, fold.test)]
        assert len(set.union(*parts)) == sum(map(len, parts)) == loaded.table.num_rows
    assert loaded.labels.max() == 1
    assert 0.05 < loaded.labels.mean() < 0.95


@pytest.mark.parametrize("name", [*TIMELESS, "happiness"])
def test_no_column_of_a_set_gives_the_outcome_away(name: str) -> None:
    loaded = load_set(name)
    for column in loaded.contract.features:
        if column.kind == "number":
            values = loaded.table[column.name].to_numpy(zero_copy_only=False)
            known = np.isfinite(values)
            together = np.corrcoef(values[known], loaded.labels[known])[0, 1]
            assert not abs(together) > 0.9, column.name


def test_flights_are_predicted_later_than_all_that_is_learned_from() -> None:
    loaded = load_set("flights")
    (fold,) = loaded.folds
    # Rows are in order of departure.
    assert fold.train.max() < fold.stop.min() <= fold.stop.max() < fold.test.min()
    assert not {"tail", "flight_id"} & {column.name for column in loaded.contract.features}


def test_a_run_that_was_interrupted_goes_on_with_the_same_trials(
    tabular: TabularSet, tmp_path: Path
) -> None:
    whole, first, second = Counting(), Counting(), Counting()
    bench(tabular, whole, tmp_path / "whole").tuned(8)
    bench(tabular, first, tmp_path / "parts").tuned(5)
    settings, _ = bench(tabular, second, tmp_path / "parts").tuned(8)
    assert first.searched + second.searched == whole.searched
    assert settings["x"] == min(whole.searched, key=lambda x: abs(x - 0.3))


def test_a_fold_is_not_trained_twice_unless_the_code_changed(
    tabular: TabularSet, tmp_path: Path
) -> None:
    file, contender = tmp_path / "orders.jsonl", Counting()
    first = list(bench(tabular, contender, file).folds("default", {"x": 1}, 5))
    # The run died while it wrote.
    with file.open("a") as opened:
        opened.write('{"key": "half')
    again = list(bench(tabular, contender, file).folds("default", {"x": 1}, 5))
    assert contender.num_predicted == 5
    assert [record["scores"] for record in again] == [record["scores"] for record in first]
    for _ in range(2):
        list(bench(tabular, contender, file, "v2").folds("default", {"x": 1}, 2))
        assert contender.num_predicted == 7


@pytest.mark.parametrize("contender", [Ours(), LightGBM(), XGBoost()])
def test_every_contender_learns_from_numbers_nulls_and_categories(
    tabular: TabularSet, contender: Contender, tmp_path: Path
) -> None:
    runner = bench(tabular, contender, tmp_path / "orders.jsonl")
    settings = dict(contender.default(480))
    if "training" in settings:
        settings["training"] = {**settings["training"], "epochs": 12}
    (record,) = runner.folds("default", settings, 1)
    figures = figures_of([runner.predicted(record)], num_draws=20)
    value, low, high = figures.interval("roc_auc")
    assert low < value < high
    # What made the outcomes has .87 on these rows.
    assert value > 0.8
    assert figures.interval("log_loss")[0] < 0.6


def predictions(chance: np.random.Generator, skill: float) -> Iterator[Predicted]:
    for number in range(3):
        labels = np.random.default_rng(number).integers(0, 2, 400)
        yield Predicted(labels, 1 / (1 + np.exp(-skill * labels - chance.normal(size=400))))


def ranked(skills: Sequence[float]) -> dict[str, Figures]:
    chance = np.random.default_rng(5)
    return {
        f"skill {skill}": figures_of(list(predictions(chance, skill)), num_draws=50)
        for skill in skills
    }


def test_the_better_contender_ranks_first_and_the_interval_says_how_sure_that_is() -> None:
    ranks = mean_ranks({"a": ranked([0.1, 3.0]), "b": ranked([0.1, 3.0])})
    assert ranks["skill 3.0"] == (1.0, 1.0, 1.0)
    assert ranks["skill 0.1"] == (2.0, 2.0, 2.0)
    # Where both know as much, resamples turn them round.
    close = mean_ranks({"a": ranked([1.0, 1.001])})
    assert any(low < high for _, low, high in close.values())


def test_equal_contenders_share_their_rank() -> None:
    figures = ranked([1.0])["skill 1.0"]
    assert mean_ranks({"a": {"one": figures, "other": figures}}) == {
        "one": (1.5, 1.5, 1.5),
        "other": (1.5, 1.5, 1.5),
    }


def test_a_contender_that_a_set_lacks_is_not_ranked() -> None:
    figures = ranked([1.0])["skill 1.0"]
    by_set = {"a": {"one": figures, "other": figures}, "b": {"one": figures}}
    assert set(mean_ranks(by_set)) == {"one"}

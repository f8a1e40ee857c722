"""Gradient-boosted trees as contenders: native categories, native nulls, early stopping.

The defaults are the libraries' own, with as many trees as early stopping finds. Then they learn
anew from training and stop rows with that many trees, as ours does.
"""

import abc
from typing import Any

import lightgbm
import numpy as np
import optuna
import pandas as pd
import xgboost
from numpy.typing import NDArray

from app.model.platt import Platt
from benchmarks.tabular.contenders import Array, Prediction, Settings, calibrated_loss
from benchmarks.tabular.sets import Fold, TabularSet

MAX_TREES = 2000
PATIENCE = 50
SEED = 7
LIGHTGBM = {
    "objective": "binary",
    "metric": "binary_logloss",
    "seed": SEED,
    "num_threads": 1,
    "deterministic": True,
    "verbosity": -1,
}
XGBOOST = {"objective": "binary:logistic", "seed": SEED, "nthread": 1, "tree_method": "hist"}
Labels = NDArray[np.int64]


class _Trees(abc.ABC):
    """What both libraries share: frames in, early stopping, refit, calibration."""

    name: str

    def default(self, num_known: int) -> Settings:
        """Take the library's own."""
        return {}

    def search(self, tabular: TabularSet, fold: Fold, settings: Settings) -> float:
        """Give the stop loss at the best number of trees."""
        frame, labels = _frame(tabular), tabular.labels
        scores, _ = self._stopped(frame, labels, fold, settings)
        return calibrated_loss(scores, labels[fold.stop])

    def predict(self, tabular: TabularSet, fold: Fold, settings: Settings) -> Prediction:
        """Find the number of trees, calibrate, refit with the stop rows, predict."""
        frame, labels = _frame(tabular), tabular.labels
        scores, num_trees = self._stopped(frame, labels, fold, settings)
        both = np.concatenate([fold.train, fold.stop])
        final = self._refitted(frame.iloc[both], labels[both], settings, num_trees)
        raw = final(frame.iloc[fold.test])
        calibrator = Platt.fit(scores, labels[fold.stop])
        loss = calibrated_loss(scores, labels[fold.stop])
        return Prediction(calibrator.apply(raw), loss, num_trees)

    @abc.abstractmethod
    def _stopped(
        self, frame: pd.DataFrame, labels: Labels, fold: Fold, settings: Settings
    ) -> tuple[Array, int]:
        """Train until the stop loss has not fallen for long; give stop scores and trees."""

    @abc.abstractmethod
    def _refitted(self, frame: pd.DataFrame, labels: Labels, settings: Settings, trees: int) -> Any:
        """Train so many trees; give what predicts a frame."""


class LightGBM(_Trees):
    """LightGBM."""

    name = "lightgbm"

    def suggest(self, trial: optuna.Trial, num_known: int) -> Settings:
        """Draw from a usual space."""
        return {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 4, 128, log=True),
            "min_child_samples": trial.suggest_int("min_child_samples", 5, 200, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1.0),
            "subsample_freq": 1,
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1.0),
            "reg_alpha": trial.suggest_float("reg_alpha", 1e-3, 10.0, log=True),
            "reg_lambda": trial.suggest_float("reg_lambda", 1e-3, 10.0, log=True),
        }

    def _stopped(
        self, frame: pd.DataFrame, labels: Labels, fold: Fold, settings: Settings
    ) -> tuple[Array, int]:
        train = lightgbm.Dataset(frame.iloc[fold.train], labels[fold.train])
        stop = lightgbm.Dataset(frame.iloc[fold.stop], labels[fold.stop], reference=train)
        booster = lightgbm.train(
            {**LIGHTGBM, **settings},
            train,
            MAX_TREES,
            valid_sets=[stop],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
        return booster.predict(frame.iloc[fold.stop]), int(booster.best_iteration)

    def _refitted(self, frame: pd.DataFrame, labels: Labels, settings: Settings, trees: int) -> Any:
        booster = lightgbm.train({**LIGHTGBM, **settings}, lightgbm.Dataset(frame, labels), trees)
        return booster.predict


class XGBoost(_Trees):
    """XGBoost."""

    name = "xgboost"

    def suggest(self, trial: optuna.Trial, num_known: int) -> Settings:
        """Draw from a usual space."""
        return {
            "eta": trial.suggest_float("eta", 0.01, 0.3, log=True),
            "max_depth": trial.suggest_int("max_depth", 2, 9),
            "min_child_weight": trial.suggest_float("min_child_weight", 0.5, 50, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1.0),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1.0),
            "alpha": trial.suggest_float("alpha", 1e-3, 10.0, log=True),
            "lambda": trial.suggest_float("lambda", 1e-3, 10.0, log=True),
        }

    def _stopped(
        self, frame: pd.DataFrame, labels: Labels, fold: Fold, settings: Settings
    ) -> tuple[Array, int]:
        train = _matrix(frame.iloc[fold.train], labels[fold.train])
        stop = _matrix(frame.iloc[fold.stop], labels[fold.stop])
        booster = xgboost.train(
            {**XGBOOST, **settings},
            train,
            MAX_TREES,
            evals=[(stop, "stop")],
            early_stopping_rounds=PATIENCE,
            verbose_eval=False,
        )
        num_trees = booster.best_iteration + 1
        scores = booster.predict(stop, iteration_range=(0, num_trees))
        return scores.astype(np.float64), num_trees

    def _refitted(self, frame: pd.DataFrame, labels: Labels, settings: Settings, trees: int) -> Any:
        booster = xgboost.train({**XGBOOST, **settings}, _matrix(frame, labels), trees)
        return lambda rows: booster.predict(_matrix(rows, None)).astype(np.float64)


def _matrix(frame: pd.DataFrame, labels: Labels | None) -> xgboost.DMatrix:
    return xgboost.DMatrix(frame, label=labels, enable_categorical=True)


def _frame(tabular: TabularSet) -> pd.DataFrame:
    """Give the columns as a contender of pandas takes them."""
    names = [column.name for column in tabular.contract.features]
    frame: pd.DataFrame = tabular.table.select(names).to_pandas()
    for column in tabular.contract.features:
        if column.kind == "category":
            frame[column.name] = frame[column.name].astype("category")
    return frame

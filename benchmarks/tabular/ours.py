"""Mainspring as a contender: the product's own path, with the dials that jobs.init proposes."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna

from app.config import Config
from app.data.dials import feature_dials, training_dials
from app.data.features import Encoder, Statistics
from app.data.splits import STOP, TRAIN, Split
from app.sections import NetworkConfig, SourceConfig
from app.training.assembly import Material, assemble, fit_material
from app.training.state import FitState
from app.training.window import Window
from benchmarks.tabular.contenders import Prediction, Settings
from benchmarks.tabular.sets import Fold, TabularSet


class Ours:
    """The tabular network."""

    name = "mainspring"

    def default(self, num_known: int) -> Settings:
        """Give what jobs.init would write into the YAML of a table of this size."""
        training = {k: v for k, v in training_dials(num_known, None).items() if k != "split"}
        return {"features": feature_dials(num_known), "training": training}

    def suggest(self, trial: optuna.Trial, num_known: int) -> Settings:
        """Draw around the proposal."""
        proposed = Ours.default(self, num_known)
        network = {
            "hidden": trial.suggest_categorical("hidden", [32, 64, 128, 192]),
            "num_layers": trial.suggest_int("num_layers", 1, 3),
            "dropout": trial.suggest_float("dropout", 0.0, 0.5),
            "num_members": trial.suggest_categorical("num_members", [4, 8, 16]),
        }
        training = {
            "learning_rate": trial.suggest_float("learning_rate", 5e-4, 8e-3, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-3, 1.0, log=True),
            "network": {**proposed["training"].get("network", {}), **network},
        }
        features = {"num_bins": trial.suggest_categorical("num_bins", [4, 8, 16, 32])}
        return {
            "features": {**proposed["features"], **features},
            "training": {**proposed["training"], **training},
        }

    def search(self, tabular: TabularSet, fold: Fold, settings: Settings) -> float:
        """Give the lowest stop loss; no refit."""
        unrefitted = {**settings["training"], "refit": False}
        config = _config(tabular, {**settings, "training": unrefitted})
        window = _window(tabular, fold)
        return float(_fitted(config, window)[1].best_loss)

    def predict(self, tabular: TabularSet, fold: Fold, settings: Settings) -> Prediction:
        """Encode, train, refit, calibrate, and let the bundle predict."""
        config, window = _config(tabular, settings), _window(tabular, fold)
        encoder, state = _fitted(config, window)
        bundle = assemble(config, window, encoder, state, {}).bundle
        scores = bundle.predict(tabular.rows(fold.test))
        return Prediction(scores, state.best_loss, state.best_epoch)


class OurFitWithTabM(Ours):
    """The package's TabM in place of our network; encoding, training and sizes are ours."""

    name = "tabm"
    sizes = ("hidden", "num_layers", "num_members", "dropout")

    def default(self, num_known: int) -> Settings:
        """Give our proposal with the other network."""
        return self._exchanged(super().default(num_known))

    def suggest(self, trial: optuna.Trial, num_known: int) -> Settings:
        """Draw as ours does."""
        return self._exchanged(super().suggest(trial, num_known))

    def _exchanged(self, settings: Settings) -> Settings:
        network = NetworkConfig.model_validate(settings["training"].get("network", {}))
        sizes = {name: getattr(network, name) for name in self.sizes}
        other = {"module": "benchmarks.tabular.tabm_net:PublishedTabM", "options": sizes}
        return {**settings, "training": {**settings["training"], "network": other}}


def _config(tabular: TabularSet, settings: Settings) -> Config:
    document: dict[str, Any] = {
        "name": tabular.name,
        "workspace": Path(".cache/quality"),
        "source": SourceConfig(kind="parquet", events="none.parquet"),
        "contract": tabular.contract,
        **settings,
    }
    return Config.model_validate(document)


def _window(tabular: TabularSet, fold: Fold) -> Window:
    """Give a fold the roles of a window; rows to be predicted shape nothing."""
    places = np.concatenate([fold.train, fold.stop])
    roles = np.repeat(np.array([TRAIN, STOP], np.int8), [len(fold.train), len(fold.stop)])
    return Window(tabular.rows(places), Split(roles, (), ()), tabular.contract)


def _fitted(config: Config, window: Window) -> tuple[Encoder, FitState]:
    encoder = Encoder.fit(Statistics.collect(window.train, config.contract), config.features)
    return encoder, fit_material(config, Material.of(window, encoder))

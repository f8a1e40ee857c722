"""From a space to a trial: distributions, values people can read, a trial's configuration."""

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from app.config import Config
from app.sections.tuning import TuningConfig
from app.training.space import current_values, distributions, max_epochs, readable, trial_config
from tests.learning_world import make_config

SPACE = {
    "training.learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "training.epochs": {"integer": [2, 5]},
    "training.network.dropout": {"uniform": [0.0, 0.5]},
    "features.num_bins": {"log_integer": [4, 64]},
    "training.schedule": {"choice": ["constant", "cosine"]},
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    tuning = TuningConfig.model_validate({"space": SPACE})
    return make_config(tmp_path).model_copy(update={"tuning": tuning})


def test_each_kind_is_its_distribution(config: Config) -> None:
    assert distributions(config.tuning) == {
        "training.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "training.epochs": IntDistribution(2, 5),
        "training.network.dropout": FloatDistribution(0.0, 0.5),
        "features.num_bins": IntDistribution(4, 64, log=True),
        "training.schedule": CategoricalDistribution(("constant", "cosine")),
    }


def test_rounding_leaves_no_value_outside_its_bounds() -> None:
    space = {"training.averaging": {"uniform": [0.123446, 0.987654]}}
    tuning = TuningConfig.model_validate({"space": space})
    assert readable(tuning, {"training.averaging": 0.987653}) == {"training.averaging": 0.987654}
    assert readable(tuning, {"training.averaging": 0.123447}) == {"training.averaging": 0.123446}
    assert readable(tuning, {"training.averaging": 0.5555555}) == {"training.averaging": 0.5556}


def test_a_trial_has_its_values_and_no_refit_and_nothing_else_changes(config: Config) -> None:
    made = trial_config(config, {"training.network.dropout": 0.25, "features.num_bins": 5})
    assert (made.training.network.dropout, made.features.num_bins) == (0.25, 5)
    assert not made.training.refit
    network = made.training.network.model_copy(update={"dropout": config.training.network.dropout})
    restored = made.training.model_copy(update={"refit": True, "network": network})
    assert restored == config.training
    assert made.contract == config.contract


def test_values_that_the_settings_refuse_are_named(config: Config) -> None:
    with pytest.raises(ValueError, match=r"training: .*greater than or equal to 16"):
        trial_config(config, {"training.batch_rows": 3})


def test_the_settings_as_they_stand_come_first_where_the_space_holds_them(config: Config) -> None:
    assert current_values(config) == {
        "features.num_bins": 8,
        "training.epochs": 3,
        "training.learning_rate": 1e-3,
        "training.network.dropout": 0.1,
        "training.schedule": "cosine",
    }
    outside = trial_config(config, {"training.learning_rate": 0.5})
    assert current_values(outside) is None


def test_the_longest_trial_bounds_the_search(config: Config, tmp_path: Path) -> None:
    assert max_epochs(config) == 5
    assert max_epochs(make_config(tmp_path)) == 3

"""What is proposed for a size of table: settings that load, an ensemble, bounded steps."""

import pytest

from app.data.dials import LARGE, STEPS, feature_dials, training_dials
from app.sections import FeaturesConfig, TrainingConfig

SIZES = [60, 800, 5_000, LARGE - 1, LARGE, 2_000_000]


@pytest.mark.parametrize("num_known", SIZES)
def test_every_size_gets_an_ensemble_that_loads(num_known: int) -> None:
    config = TrainingConfig.model_validate(training_dials(num_known, {"by": "id"}))
    assert config.network.num_members >= 4
    assert config.min_epochs <= config.epochs
    assert config.split.by == "id"
    assert FeaturesConfig.model_validate(feature_dials(num_known)).num_bins >= 8


@pytest.mark.parametrize("num_known", SIZES[1:4])
def test_a_small_table_gets_enough_steps_and_no_more(num_known: int) -> None:
    config = TrainingConfig.model_validate(training_dials(num_known, {}))
    steps = config.epochs * 0.6 * num_known / config.batch_rows
    assert 0.2 * STEPS < steps < 1.5 * STEPS


def test_a_large_table_without_days_gets_no_split() -> None:
    assert "split" not in training_dials(LARGE, {})
    assert training_dials(LARGE, {"by": "id"})["split"] == {"by": "id"}

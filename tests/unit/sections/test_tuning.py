"""The search's section: what may be tuned, within which bounds, and what is answered otherwise."""

from pathlib import Path

import pytest

from app.config import Config, ConfigError, load_config, show_config
from app.sections.tuning import TuningConfig

ROOT = Path(__file__).resolve().parents[3]
FLIGHTS = ROOT / "configs" / "flights.yaml"


def searched(space: str) -> Config:
    return load_config(FLIGHTS, [f"tuning={{space: {space}}}"])


def test_choices_are_read_as_their_setting_reads_them() -> None:
    space = searched("{training.learning_rate: {choice: [1e-4, 0.01]}}").tuning.space
    assert space["training.learning_rate"].choice == (0.0001, 0.01)
    space = searched("{training.network.hidden: {choice: ['128', 192]}}").tuning.space
    assert space["training.network.hidden"].choice == (128, 192)


def test_a_dimension_can_be_changed_on_the_command_line() -> None:
    override = "tuning.space.training.network.hidden={choice: [64, 96]}"
    tuning = load_config(FLIGHTS, [override]).tuning
    assert tuning.space["training.network.hidden"].choice == (64, 96)
    assert len(tuning.space) == len(load_config(FLIGHTS).tuning.space)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ("{training.lr: {uniform: [0.1, 0.2]}}", "training.lr: no such setting"),
        ("{training.network: {choice: [1, 2]}}", "training.network: no such setting"),
        ("{serving.replicas: {choice: [1, 2]}}", "name one of training or features"),
        ("{training.network.num_layers: {integer: [1, 9]}}", "refuses 9: .* equal to 8"),
        ("{training.learning_rate: {uniform: [0, 0.1]}}", "refuses 0.0: .* greater than 0"),
        ("{training.schedule: {choice: [cosine, linear]}}", "refuses 'linear'"),
        ("{training.epochs: {uniform: [1, 4]}}", "uniform does not fit .* use integer"),
        ("{training.dropout: {integer: [0, 1]}}", "no such setting"),
        ("{training.network.dropout: {integer: [0, 1]}}", "use uniform or log_uniform or choice"),
        ("{training.schedule: {integer: [0, 1]}}", "use choice"),
        ("{training.epochs: {integer: [4, 2]}}", "first bound must be below the second"),
        ("{training.weight_decay: {log_uniform: [0, 1]}}", "bounds must be above 0"),
        ("{training.epochs: {choice: [3]}}", "two different values or more"),
        ("{training.epochs: {choice: [3, '3']}}", "two different values or more"),
        ("{training.epochs: {}}", "give one of uniform"),
        ("{training.epochs: {integer: [1, 2], choice: [1, 2]}}", "got integer, choice"),
        ("{training.epochs: {integr: [1, 2]}}", "training.epochs.integr: unknown key"),
        ("{training.split.by: {choice: [day, id]}}", "cannot be tuned: it decides by which rows"),
        ("{training.seed: {integer: [1, 9]}}", "cannot be tuned"),
        ("{training.num_workers: {integer: [1, 2]}}", "cannot be tuned: it decides how"),
    ],
)
def test_a_mistake_in_the_space_is_answered_when_the_file_loads(space: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        searched(space)


def test_every_mistake_of_a_space_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        searched("{training.lr: {uniform: [1, 2]}, training.network.num_layers: {integer: [1, 9]}}")
    assert "training.lr" in str(caught.value)
    assert "num_layers" in str(caught.value)


def test_a_search_changes_no_digest_of_what_a_model_is_made_of(flights: Config) -> None:
    plain = flights.model_copy(update={"tuning": TuningConfig()})
    sections = ("contract", "features", "training")
    assert plain.digest_of(*sections) == flights.digest_of(*sections)


def test_a_space_that_is_shown_loads_again(tmp_path: Path, flights: Config) -> None:
    shown = tmp_path / "shown.yaml"
    shown.write_text(show_config(flights))
    assert load_config(shown).tuning == flights.tuning

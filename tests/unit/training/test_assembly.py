"""From rows to a bundle, in this process."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from app.data.profile import Profile
from app.data.splits import GATE, STOP
from app.model.calibration import Platt, Temperature
from app.model.evaluation import evaluate
from app.model.networks import frozen
from app.training.assembly import Fitted, fit_in_process, new_network
from app.training.window import open_window
from tests.learning_world import END, make_config, make_rows

TABLE = make_rows()
CONFIG = make_config(Path("none"), epochs=8, patience=8, learning_rate=5e-3)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit_in_process(CONFIG, TABLE, END)


def changed(role: int, column: str) -> pa.Table:
    """Turn a column of the rows of one role round."""
    rows = open_window(CONFIG, TABLE, END).split.mask(role)
    values = TABLE[column].to_pylist()
    if column == "label":
        turned = [1 - v if v is not None and r else v for v, r in zip(values, rows, strict=True)]
    else:
        turned = [99.0 if r else v for v, r in zip(values, rows, strict=True)]
    place = TABLE.schema.get_field_index(column)
    return TABLE.set_column(place, column, pa.array(turned, TABLE.schema.field(column).type))


def test_the_bundle_is_the_same_again(fitted: Fitted) -> None:
    assert fit_in_process(CONFIG, TABLE, END).bundle.digest == fitted.bundle.digest


@pytest.mark.parametrize("column", ["label", "weight"])
def test_rows_of_gate_days_shape_nothing(fitted: Fitted, column: str) -> None:
    assert fitted.window.split.mask(GATE).sum() > 50
    again = fit_in_process(CONFIG, changed(GATE, column), END)
    assert again.bundle.digest == fitted.bundle.digest


def test_rows_of_stop_days_do_shape_it(fitted: Fitted) -> None:
    again = fit_in_process(CONFIG, changed(STOP, "label"), END)
    assert again.bundle.calibrator != fitted.bundle.calibrator
    assert again.bundle.encoder == fitted.bundle.encoder


def test_the_calibrator_is_of_the_kind_that_the_configuration_names(fitted: Fitted) -> None:
    config = make_config(
        Path("none"), epochs=8, patience=8, learning_rate=5e-3, calibration="temperature"
    )
    again = fit_in_process(config, TABLE, END)
    assert isinstance(fitted.bundle.calibrator, Platt)
    assert isinstance(again.bundle.calibrator, Temperature)
    assert again.evaluation.log_loss != fitted.evaluation.log_loss
    sections = ("contract", "features", "training")
    assert config.digest_of(*sections) != CONFIG.digest_of(*sections)
    assert "calibration" not in CONFIG.training.model_dump(mode="json")


def test_the_evaluation_is_of_the_weights_that_have_not_seen_the_stop_rows(fitted: Fitted) -> None:
    stop = fitted.window.labelled_stop
    network = new_network(CONFIG, fitted.bundle.encoder.shape)
    network.load_state_dict(fitted.state.best)
    searched = dataclasses.replace(fitted.bundle, network=frozen(network))
    expected = evaluate(stop["label"].to_numpy(), searched.predict(stop), seed=7)
    assert not np.array_equal(searched.predict(stop), fitted.bundle.predict(stop))
    assert fitted.evaluation == expected
    assert fitted.evaluation.roc_auc.value > 0.65


def test_the_profile_counts_every_row_that_shaped_the_model(fitted: Fitted) -> None:
    profile = fitted.bundle.profile
    shaping = fitted.window.shaping
    assert profile.num_rows == len(shaping) == len(TABLE) - fitted.window.split.mask(GATE).sum()
    expected = Profile.for_encoder(fitted.bundle.encoder).add(shaping)
    np.testing.assert_array_equal(profile.columns["depot"].counts, expected.columns["depot"].counts)
    assert profile.scores.num_rows == len(shaping)


def test_only_known_outcomes_are_learned_from(fitted: Fitted) -> None:
    for rows in (fitted.window.labelled_train, fitted.window.labelled_stop):
        assert set(rows["state"].to_pylist()) == {"known"}
        assert rows["label"].null_count == 0
    assert len(fitted.window.train) > len(fitted.window.labelled_train)


def test_a_window_without_outcomes_says_so() -> None:
    pending = TABLE.set_column(
        TABLE.schema.get_field_index("state"), "state", pa.array(["pending"] * len(TABLE))
    )
    with pytest.raises(ValueError, match="0 rows with known outcomes to train on"):
        open_window(CONFIG, pending, END)


def test_the_card_says_what_the_model_was_made_from(fitted: Fitted) -> None:
    card = fitted.bundle.card
    assert card["held_out_days"] == list(fitted.window.held_out_days)
    assert card["config_digest"] == CONFIG.digest_of("contract", "features", "training")
    assert card["num_train_rows"] == len(fitted.window.labelled_train)

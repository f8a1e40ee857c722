"""Epochs, early stopping, resuming."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from app.model.evaluation import roc_auc
from app.sections import TrainingConfig
from app.training.assembly import new_network
from app.training.divergence import TrainingDiverged
from app.training.fitting import fit, learning_rate
from app.training.rows import Rows
from app.training.state import FitState
from app.training.window import encode_rows
from tests.learning_world import make_config, make_encoded, make_rows

ENCODER, TRAIN, STOP = make_encoded()


def run(config: TrainingConfig, resume: FitState | None = None, train: Rows = TRAIN) -> FitState:
    network = new_network(make_config(Path(), network=config.network), ENCODER.shape)
    return fit(network, train, STOP, config, resume=resume)


def settings(**training: object) -> TrainingConfig:
    return make_config(Path(), **training).training


def assert_same(first: FitState, second: FitState) -> None:
    assert (first.epochs, first.refit_epochs) == (second.epochs, second.refit_epochs)
    assert first.best.keys() == second.best.keys()
    for name, tensor in first.best.items():
        assert torch.equal(tensor, second.best[name]), name
        assert torch.equal(first.final[name], second.final[name]), name


def test_training_learns_the_signal() -> None:
    config = settings(epochs=15, patience=15, learning_rate=5e-3)
    network = new_network(make_config(Path(), network=config.network), ENCODER.shape)
    before = roc_auc(STOP.labels, network.predict(STOP.encoded))
    fit(network, TRAIN, STOP, config)
    after = roc_auc(STOP.labels, network.predict(STOP.encoded))
    assert after > max(before, 0.7)
    assert not network.training


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    assert_same(run(settings()), run(settings()))
    assert run(settings(seed=8)).epochs != run(settings()).epochs


@pytest.mark.parametrize("interrupted_after", [1, 3, 4, 5])
def test_a_resumed_run_ends_as_an_uninterrupted_one(interrupted_after: int) -> None:
    config = settings(epochs=4, patience=4, min_epochs=3)
    states: list[FitState] = []
    network = new_network(make_config(Path(), network=config.network), ENCODER.shape)
    whole = fit(network, TRAIN, STOP, config, on_epoch=states.append)
    files = states[interrupted_after - 1].to_files("rows-and-settings")
    resumed = run(config, FitState.from_files(files, "rows-and-settings"))
    assert_same(resumed, whole)


def test_the_rate_warms_up_and_falls_to_nothing_over_all_steps() -> None:
    config = settings(learning_rate=0.01, schedule="cosine")
    rates = [learning_rate(config, step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01 / 100)
    assert max(rates) == pytest.approx(0.01, rel=0.05)
    assert all(later < earlier for earlier, later in pairwise(rates[100:]))
    assert rates[-1] < 1e-6
    constant = settings(learning_rate=0.01, schedule="constant")
    assert learning_rate(constant, 999, 1000) == 0.01


def test_a_refit_learns_from_the_stop_rows_for_as_many_epochs_as_were_best() -> None:
    config = settings(epochs=3, patience=3, min_epochs=3)
    network = new_network(make_config(Path(), network=config.network), ENCODER.shape)
    state = fit(network, TRAIN, STOP, config)
    assert [epoch.number for epoch in state.refit_epochs] == [1, 2, 3]
    assert {epoch.num_rows for epoch in state.refit_epochs} == {len(TRAIN) + len(STOP)}
    whole = TRAIN.and_(STOP)
    alone = new_network(make_config(Path(), network=config.network), ENCODER.shape)
    fit(alone, whole, STOP, config.model_copy(update={"refit": False}))
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name


def test_a_checkpoint_of_other_rows_is_refused() -> None:
    files = run(settings(epochs=1)).to_files("rows one")
    with pytest.raises(ValueError, match="another name"):
        FitState.from_files(files, "rows two")


def test_training_stops_when_the_stop_rows_no_longer_gain() -> None:
    config = settings(epochs=60, patience=2, learning_rate=3e-2)
    state = run(config)
    assert len(state.epochs) < 60
    assert len(state.epochs) - state.best_epoch == 2
    assert state.best_loss == min(epoch.stop_loss for epoch in state.epochs)


def test_early_epochs_are_not_compared() -> None:
    hasty = run(settings(epochs=60, patience=2, learning_rate=3e-2))
    config = settings(epochs=60, patience=2, learning_rate=3e-2, min_epochs=hasty.best_epoch + 3)
    state = run(config)
    assert state.best_epoch >= config.min_epochs
    compared = [epoch.stop_loss for epoch in state.epochs[config.min_epochs - 1 :]]
    assert state.best_loss == min(compared)


def test_an_epoch_within_the_tolerance_of_the_best_is_kept_when_it_is_later() -> None:
    strict = run(settings(epochs=12, patience=12, learning_rate=3e-2, stop_tolerance=0))
    lax = run(settings(epochs=12, patience=12, learning_rate=3e-2, stop_tolerance=10))
    assert strict.best_epoch < lax.best_epoch == 12
    assert strict.best_loss == lax.best_loss


@pytest.mark.parametrize("refit", [True, False])
def test_the_network_is_left_with_its_final_weights(refit: bool) -> None:
    config = settings(epochs=60, patience=3, learning_rate=3e-2, refit=refit)
    network = new_network(make_config(Path(), network=config.network), ENCODER.shape)
    state = fit(network, TRAIN, STOP, config)
    assert (state.final is state.best) is not refit
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state.final[name]), name
    assert any(not torch.equal(state.best[name], state.weights[name]) for name in state.best)


def test_a_diverging_run_says_what_to_change() -> None:
    encoded = dataclasses.replace(
        TRAIN.encoded, numbers=np.full_like(TRAIN.encoded.numbers, np.nan)
    )
    with pytest.raises(TrainingDiverged, match=r"lower training\.learning_rate"):
        run(settings(), train=Rows(encoded, TRAIN.labels))


def test_no_rows_are_refused() -> None:
    nothing = encode_rows(ENCODER, make_rows(1).slice(0, 0))
    with pytest.raises(ValueError, match="got 0 to train"):
        run(settings(), train=nothing)


def test_workers_step_as_often_as_the_one_with_the_fewest_batches() -> None:
    class TwoWorkers:
        rank, size = 0, 2

        def mean(self, value: float) -> float:
            return value

        def smallest(self, value: int) -> int:
            return min(value, 3)

    config = settings(epochs=1, batch_rows=64)
    network = new_network(make_config(Path(), network=config.network), ENCODER.shape)
    state = fit(network, TRAIN, STOP, config, peers=TwoWorkers())
    # Three steps of half a batch, on each of two workers.
    assert state.epochs[0].num_rows == 3 * 32 * 2


def test_a_run_that_goes_on_with_more_workers_ends_as_planned_and_says_so() -> None:
    class SecondOfTwo:
        rank, size = 1, 2

        def mean(self, value: float) -> float:
            return value

        def smallest(self, value: int) -> int:
            return value

    config = settings(epochs=3, patience=3, min_epochs=3)
    states: list[FitState] = []
    network = new_network(make_config(Path(), network=config.network), ENCODER.shape)
    fit(network, TRAIN, STOP, config, on_epoch=states.append)
    network = new_network(make_config(Path(), network=config.network), ENCODER.shape)
    state = fit(network, TRAIN.part(1, 2), STOP, config, resume=states[0], peers=SecondOfTwo())
    assert [epoch.num_workers for epoch in state.epochs] == [1, 2, 2]
    # Half the rows, in batches of half the size: as many steps, as many rows of all workers.
    assert [epoch.num_rows for epoch in state.epochs] == [len(TRAIN)] * 3
    assert state.epochs[-1].train_loss < state.epochs[0].train_loss

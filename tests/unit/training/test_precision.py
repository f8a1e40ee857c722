"""Precision and compilation: close to the plain pass, and resumable to the bit all the same."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from app.config import ConfigError, load_config
from app.sections import TrainingConfig
from app.training import precision
from app.training.assembly import new_network
from app.training.fitting import fit
from app.training.precision import forward_of
from app.training.state import FitState
from tests.learning_world import make_config, make_encoded

ENCODER, TRAIN, STOP = make_encoded()


def run(config: TrainingConfig, resume: FitState | None = None) -> tuple[FitState, list[FitState]]:
    network = new_network(make_config(Path(), network=config.network), ENCODER.shape)
    states: list[FitState] = []
    return fit(network, TRAIN, STOP, config, resume=resume, on_epoch=states.append), states


def settings(**training: object) -> TrainingConfig:
    return make_config(Path(), **training).training


def assert_equal(one: FitState, other: FitState) -> None:
    assert (one.epochs, one.refit_epochs) == (other.epochs, other.refit_epochs)
    for name, tensor in one.final.items():
        assert torch.equal(tensor, other.final[name]), name


def test_half_the_width_learns_nearly_the_same() -> None:
    wide, _ = run(settings())
    narrow, _ = run(settings(precision="bfloat16"))
    assert wide.final["first.weight"].dtype == narrow.final["first.weight"].dtype == torch.float32
    losses = [[epoch.stop_loss for epoch in state.epochs] for state in (wide, narrow)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert any(not torch.equal(wide.final[name], narrow.final[name]) for name in wide.final)


def test_logits_of_half_the_width_come_in_whole() -> None:
    network = new_network(make_config(Path()), ENCODER.shape).eval()
    forward = forward_of(network, settings(precision="bfloat16"), torch.device("cpu"))
    numbers, categories = map(torch.from_numpy, vars(STOP.encoded).values())
    logits, exact = forward(numbers, categories), network(numbers, categories)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, exact)
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("training", [{"precision": "bfloat16"}, {"resident": "host"}])
def test_a_resumed_run_of_any_kind_ends_as_an_uninterrupted_one(
    training: dict[str, object],
) -> None:
    config = settings(**training)
    whole, states = run(config)
    for state in states[:-1]:
        resumed, _ = run(config, FitState.from_files(state.to_files("it"), "it"))
        assert_equal(resumed, whole)


def test_where_the_rows_lie_changes_no_bit() -> None:
    assert_equal(run(settings(resident="host"))[0], run(settings())[0])


@pytest.mark.slow
def test_a_compiled_network_learns_nearly_the_same() -> None:
    config = settings(compile=True, network={"hidden": 16, "num_members": 2, "dropout": 0.0})
    compiled, states = run(config)
    plain, _ = run(config.model_copy(update={"compile": False}))
    for name, tensor in plain.final.items():
        torch.testing.assert_close(compiled.final[name], tensor, rtol=1e-3, atol=1e-4)
    resumed, _ = run(config, states[1])
    assert_equal(resumed, compiled)


def test_without_a_compiler_training_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from torch._inductor import config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    torch.compiler.reset()
    network = new_network(make_config(Path()), ENCODER.shape)
    with caplog.at_level(logging.WARNING, precision.__name__):
        assert forward_of(network, settings(compile=True), torch.device("cpu")) is network
    assert "training goes on without torch.compile" in caplog.text


def test_new_settings_at_their_defaults_leave_the_digest_alone_and_where_is_never_in_it() -> None:
    config = make_config(Path())
    assert config.digest_of("training") == "3842556c0db61a35"
    for where in ({"resident": "host"}, {"placement": "in_process"}):
        assert make_config(Path(), **where).digest_of("training") == config.digest_of("training")
    for what in ({"precision": "bfloat16"}, {"compile": True}):
        assert make_config(Path(), **what).digest_of("training") != config.digest_of("training")


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    file = Path(__file__).parents[3] / "configs" / "flights.yaml"
    with pytest.raises(ConfigError, match=r"training\.precision"):
        load_config(file, ["training.precision=float8"])

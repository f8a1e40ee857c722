"""What the processes of a search do: encode its rows once, fit one trial's settings on them.

Knows Ray Tune's worker side; what is fitted and how is in trial.py and train.py. Every epoch is
reported, and the driver decides on it; epochs of an earlier process are reported again.
"""

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.train
import torch
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from app.config import Config
from app.contracts.rows import Contract
from app.data.features import Encoder
from app.data.splits import Split
from app.model.tasks import task_from
from app.sections import FeaturesConfig
from app.training.assembly import SECTIONS, Material
from app.training.rows import Rows
from app.training.state import Epoch
from app.training.train import make_trainer, read_trained
from app.training.trial import EncodedRows, run_trial
from app.training.window import Window

# Encoded rows are large: those of settings that no trial uses any more make room.
MAX_ENCODERS = 4


class RowsActor:
    """Encodes the rows of a search once for each setting of features, whoever asks."""

    def __init__(self, contract: str, parts: tuple[pa.Table, Split]) -> None:
        """Read the rows from the object store, where they lie with the part that each plays."""
        self._rows = EncodedRows(Window(*parts, Contract.model_validate_json(contract)))
        self._encoder = lru_cache(MAX_ENCODERS)(self._fit)
        self._encoded = lru_cache(MAX_ENCODERS)(self._encode)

    def encoder(self, features: str) -> bytes:
        """Give the encoder of these settings as JSON."""
        return self._encoder(features)

    def task(self) -> dict[str, Any]:
        """Give what is learned, as its fields."""
        return self._rows.task.model_dump()

    def rows(self, features: str) -> list[Any]:
        """Give references to the encoded rows, those to train on and those to stop."""
        return self._encoded(features)

    def _fit(self, features: str) -> bytes:
        return self._rows.encoder(FeaturesConfig.model_validate_json(features)).to_json()

    def _encode(self, features: str) -> list[Any]:
        rows = self._rows.rows(Encoder.from_json(self._encoder(features)))
        return [ray.put(part) for part in rows]


def fit_alone(settings: dict[str, Any], rows: Any, dataset: str, threads: int) -> None:
    """Fit one trial in this process."""
    torch.set_num_threads(threads)
    # The rows lie in the object store for all trials; torch warns that one could write to them.
    warnings.filterwarnings("ignore", message=".*not writable.*", category=UserWarning)
    config = Config.model_validate_json(settings["config"])
    features = config.features.model_dump_json()
    encoder = Encoder.from_json(ray.get(rows.encoder.remote(features)))
    encoded: list[Rows] = ray.get(ray.get(rows.rows.remote(features)))
    try:
        run_trial(
            config,
            Material(encoder.shape, task_from(ray.get(rows.task.remote())), *encoded),
            Path(settings["folder"]),
            _fingerprint(config, dataset),
            _tell,
        )
    except ValueError as error:
        # Settings with which nothing can be learned are an answer too.
        tune.report({"failure": str(error), "number": 0, "stop_loss": float("inf")})


def fit_with_workers(
    settings: dict[str, Any], rows: Any, parts: tuple[pa.Table, Split], dataset: str
) -> None:
    """Fit one trial on workers of Ray Train, which keeps its checkpoints in the trial's folder."""
    config = Config.model_validate_json(settings["config"])
    encoder = ray.get(rows.encoder.remote(config.features.model_dump_json()))
    table, split = parts
    fingerprint = _fingerprint(config, dataset)
    outcome = make_trainer(
        config,
        Window(table, split, config.contract),
        Encoder.from_json(encoder),
        fingerprint,
        Path(settings["folder"]),
        [TuneReportCallback()],  # type: ignore[no-untyped-call]
    ).fit()
    ended: dict[str, str] | None = outcome.return_value  # type: ignore[attr-defined]
    if ended is not None:
        tune.report({"failure": ended["told"], "number": 0, "stop_loss": float("inf")})
        return
    # What an earlier driver did not live to hear.
    for epoch in read_trained(outcome, fingerprint).state.epochs:
        _tell(epoch, 0.0)


def _tell(epoch: Epoch, seconds: float) -> None:
    """Report one epoch; returns when the driver wishes the trial to go on."""
    tune.report({**epoch.model_dump(), "epoch_seconds": seconds})


def _fingerprint(config: Config, dataset: str) -> str:
    return f"{dataset}-{config.digest_of(*SECTIONS)}"

"""From a window of rows to a model bundle: divide, encode, fit, calibrate, evaluate, assemble.

Knows tables, the contract and the training section; knows nothing of Ray, storage or the clock. The
Ray shell runs the same steps with the middle part on workers; `fit_in_process` runs them all right
here.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.config import Config
from app.contracts.records import (
    DatasetVersion,
    Evaluation,
    ModelVersion,
    TaskEvaluation,
)
from app.data.features import Encoder, InputShape, Statistics
from app.data.profile import Profile
from app.model.bundle import Learned, ModelBundle
from app.model.calibration import Calibrator, fit_calibrator
from app.model.evaluation import evaluate
from app.model.intervals import Bootstrap
from app.model.measures import figures_of
from app.model.networks import Network, build_network, frozen
from app.model.tasks import BinaryTask, LearningTask
from app.training.boosting import Growth, grow, trees_of
from app.training.fitting import fit
from app.training.progress import Step
from app.training.rows import Rows
from app.training.state import FitState
from app.training.window import Window, encode_rows, held_out_share, open_window

SCORED_ROWS = 20_000
NUM_BOOTSTRAPS = 200
CONFIDENCE = 0.9
# All that decides what a model is made of, beside the rows.
SECTIONS = ("contract", "features", "training")
SOURCES = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Material:
    """What is learned, and from which rows."""

    shape: InputShape
    task: LearningTask
    train: Rows
    stop: Rows

    @classmethod
    def of(cls, window: Window, encoder: Encoder) -> Self:
        """Encode the rows of a window."""
        train, stop = (
            encode_rows(encoder, rows) for rows in (window.labelled_train, window.labelled_stop)
        )
        return cls(encoder.shape, window.task, train, stop)


@dataclass(frozen=True)
class Fitted:
    """A bundle and how it came to be."""

    bundle: ModelBundle
    evaluation: Evaluation | TaskEvaluation
    window: Window
    state: FitState
    searched: ModelBundle
    """With the weights of the search, which have not seen the stop rows: what figures are of."""

    def version(
        self, config: Config, dataset: DatasetVersion, run: str, created_at: datetime
    ) -> ModelVersion:
        """Describe the bundle for the registry."""
        return ModelVersion(
            digest=self.bundle.digest,
            model=config.name,
            run=run,
            kind="trained",
            created_at=created_at,
            dataset=dataset,
            trained_until=dataset.end,
            held_out_days=self.window.held_out_days,
            held_out_share=held_out_share(config),
            config_digest=config.digest_of(*SECTIONS),
            code_version=code_version(),
            seed=config.training.seed,
            evaluation=self.evaluation,
        )


def new_network(config: Config, shape: InputShape, task: LearningTask | None = None) -> Network:
    """Make the network with the initial weights that the seed gives, the same everywhere."""
    torch.manual_seed(config.training.seed)
    return build_network(config.training.network, shape, task or BinaryTask())


def restore(
    config: Config, shape: InputShape, task: LearningTask, weights: Mapping[str, Tensor]
) -> Learned:
    """Make the model that the tensors of a state hold, to predict with."""
    if config.training.model == "trees":
        return trees_of(config.training, shape, task, weights)
    network = new_network(config, shape, task)
    network.load_state_dict(weights)
    return frozen(network)


def assemble(
    config: Config,
    window: Window,
    encoder: Encoder,
    state: FitState,
    facts: Mapping[str, object],
) -> Fitted:
    """Calibrate and evaluate on the stop rows, profile the rows of training, make the bundle.

    Calibrator and figures are those of the search, which has not seen the stop rows; the bundle
    holds the final weights. `facts` go on the card beside what is known here.
    """

    def draft(weights: Mapping[str, Tensor]) -> ModelBundle:
        learned = restore(config, encoder.shape, window.task, weights)
        nothing = Profile.for_encoder(encoder)
        return ModelBundle(config.contract, encoder, learned, Calibrator(), nothing, {})

    rows = window.labelled_stop
    searched = draft(state.best)
    raw, labels = searched.uncalibrated(rows), rows["label"].to_numpy()
    calibrator = fit_calibrator(config.training.calibration, raw, labels, config.contract.task)
    evaluation = _evaluate(config, rows, calibrator.apply(raw))
    final = draft(state.final).with_calibrator(calibrator, {})
    profile = _profile(final, window.shaping)
    card = {
        "model": config.name,
        "label": config.contract.label,
        "config_digest": config.digest_of(*SECTIONS),
        "code_version": code_version(),
        "seed": config.training.seed,
        "num_train_rows": len(window.labelled_train),
        "num_stop_rows": len(window.labelled_stop),
        **final.network.size,
        "held_out_days": list(window.held_out_days),
        "held_out_share": share.model_dump() if (share := held_out_share(config)) else None,
        "best_epoch": state.best_epoch,
        "epochs": [epoch.model_dump() for epoch in state.epochs],
        "refit_epochs": [epoch.model_dump() for epoch in state.refit_epochs],
        "evaluation": evaluation.model_dump(),
        "threshold": config.evaluation.declared_threshold,
        **facts,
    }
    bundle = replace(final, profile=profile, card=card)
    return Fitted(bundle, evaluation, window, state, searched.with_calibrator(calibrator, {}))


def fit_in_process(
    config: Config,
    table: pa.Table,
    end: datetime,
    *,
    facts: Mapping[str, object] | None = None,
    on_epoch: Callable[[FitState], None] = lambda state: None,
) -> Fitted:
    """Do all of training here, on a loaded snapshot that ends at `end`: comparators and tests.

    One Ray worker over the same rows gives the same bundle. The number of torch threads is the
    caller's.
    """
    window = open_window(config, table, end)
    encoder = Encoder.fit(Statistics.collect(window.train, config.contract), config.features)
    state = fit_material(config, Material.of(window, encoder), on_epoch=on_epoch)
    return assemble(config, window, encoder, state, facts or {})


def fit_material(
    config: Config,
    material: Material,
    *,
    resume: FitState | None = None,
    on_epoch: Callable[[FitState], None] = lambda state: None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> FitState:
    """Fit what the configuration names to encoded rows, here, as one worker would.

    The number of torch threads is the caller's, and decides the last bits. Raises what `fit` and
    `grow` raise.
    """
    training, task = config.training, material.task
    train, stop = material.train, material.stop
    if training.model == "trees":
        growth = Growth(task, train, stop, training, torch.get_num_threads())
        return grow(growth, resume=resume, on_epoch=on_epoch)
    network = new_network(config, material.shape, task)
    network = network.to("cuda" if training.use_gpu else "cpu")
    return fit(network, train, stop, training, resume=resume, on_epoch=on_epoch, on_step=on_step)


def code_version() -> str:
    """Digest the sources of the product: also where no git is."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.py")):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _evaluate(
    config: Config, rows: pa.Table, predictions: NDArray[np.float64]
) -> Evaluation | TaskEvaluation:
    """Give the figures that a version is known by."""
    contract, seed = config.contract, config.training.seed
    if contract.task == "binary":
        return evaluate(rows["label"].to_numpy(), predictions, seed=seed)
    bootstrap = Bootstrap(len(rows), NUM_BOOTSTRAPS, CONFIDENCE, seed)
    metrics = figures_of(contract, rows, predictions, bootstrap)
    return TaskEvaluation(task=contract.task, num_rows=len(rows), metrics=metrics)


def _profile(bundle: ModelBundle, rows: pa.Table) -> Profile:
    """Profile all rows, and the predictions of evenly spread ones: less cost, the same shape."""
    step = max(len(rows) // SCORED_ROWS, 1)
    predictions = bundle.predict(rows.take(np.arange(0, len(rows), step)))
    scores = bundle.network.task.summary(predictions)
    return Profile.for_encoder(bundle.encoder, scores).add(rows).add_scores(scores)

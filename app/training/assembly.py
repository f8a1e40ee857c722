"""From a window of rows to a model bundle: divide, encode, fit, calibrate, evaluate, assemble.

Knows tables, the contract and the training section; knows nothing of Ray, storage or the clock. The
Ray shell runs the same steps with the middle part on workers; `fit_in_process` runs them all right
here.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.config import Config
from app.contracts.records import DatasetVersion, Evaluation, HeldOutShare, ModelVersion
from app.contracts.rows import Contract
from app.data.features import Encoder, InputShape, Statistics
from app.data.profile import Profile
from app.data.splits import (
    GATE,
    STOP,
    TRAIN,
    Split,
    split_days,
    split_keys,
    split_shares,
)
from app.model.bundle import Learned, ModelBundle
from app.model.calibration import Calibrator
from app.model.evaluation import evaluate
from app.model.networks import Network, build_network
from app.model.outcomes import fit_calibrator
from app.model.tasks import BinaryTask, LearningTask, task_of
from app.training.boosting import Growth, grow, trees_of
from app.training.fitting import fit
from app.training.rows import Rows
from app.training.state import FitState

SCORED_ROWS = 20_000
# All that decides what a model is made of, beside the rows.
SECTIONS = ("contract", "features", "training")
# Name of the column that numbers the lists of a ranking.
LIST = "list"
SOURCES = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Window:
    """The rows of a snapshot with the part that each plays."""

    table: pa.Table
    split: Split
    contract: Contract

    @cached_property
    def task(self) -> LearningTask:
        """What is learned: of numbers also the scale, that of the rows the network is fitted on."""
        return task_of(self.contract, self.labelled_train["label"].to_numpy())

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Which rows have a known outcome."""
        known: NDArray[np.bool_] = pc.equal(self.table["state"], "known").to_numpy()
        return known

    @cached_property
    def train(self) -> pa.Table:
        """Rows that the encoder is fitted on, with or without an outcome."""
        return self._rows(self.split.mask(TRAIN))

    @cached_property
    def labelled_train(self) -> pa.Table:
        """Rows that the network is fitted on."""
        return self._rows(self.split.mask(TRAIN) & self.known)

    @cached_property
    def labelled_stop(self) -> pa.Table:
        """Rows that stop training and fit the calibrator."""
        return self._rows(self.split.mask(STOP) & self.known)

    @cached_property
    def shaping(self) -> pa.Table:
        """Every row that shapes the model: none of a gate day."""
        return self._rows(~self.split.mask(GATE))

    @property
    def held_out_days(self) -> tuple[str, ...]:
        """UTC dates that shape nothing."""
        return tuple(day.isoformat() for day in self.split.gate_days)

    def _rows(self, mask: NDArray[np.bool_]) -> pa.Table:
        return self.table.filter(pa.array(mask)).combine_chunks()


@dataclass(frozen=True)
class Fitted:
    """A bundle and how it came to be."""

    bundle: ModelBundle
    evaluation: Evaluation
    window: Window
    state: FitState

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


def open_window(config: Config, table: pa.Table, end: datetime) -> Window:
    """Divide the rows of a loaded snapshot that ends at `end`.

    Raises ValueError when no row with a known outcome is left to train or to stop.
    """
    split = _divide(config, table, end)
    window = Window(with_lists(config.contract, table), split, config.contract)
    for name, rows in (
        ("train on", window.labelled_train),
        ("stop training", window.labelled_stop),
    ):
        if len(np.unique(rows["label"].to_numpy())) < 2:
            raise ValueError(
                f"the window that ends {end.isoformat()} has {len(rows)} rows with known outcomes "
                f"to {name}, not two different ones among them; widen training.window_days or wait"
            )
    return window


def _divide(config: Config, table: pa.Table, end: datetime) -> Split:
    split, seed = config.training.split, config.training.seed
    if split.by == "day":
        return split_days(table["prediction_time"], end, split, seed)
    contract = config.contract
    return split_shares(split_keys(table, split.by, contract.id, contract.entity), split, seed)


def held_out_share(config: Config) -> HeldOutShare | None:
    """Name the rows that a split by id or entity keeps for the gate; None for a split by day."""
    split = config.training.split
    if split.by == "day":
        return None
    return HeldOutShare(by=split.by, seed=config.training.seed, share=split.gate_share)


def encode_rows(encoder: Encoder, table: pa.Table) -> Rows:
    """Encode rows with known outcomes, with their lists where the table says them."""
    labels = table["label"].to_numpy()
    if np.issubdtype(labels.dtype, np.integer):
        labels = labels.astype(np.int64)
    groups = table[LIST].to_numpy() if LIST in table.column_names else None
    return Rows(encoder.transform(table), labels, groups)


def with_lists(contract: Contract, table: pa.Table) -> pa.Table:
    """Number the lists of a ranking in a column, by the order of their names; else the table."""
    if contract.group is None:
        return table
    column = table[contract.group].combine_chunks().cast(pa.string())
    names = pc.sort_indices(column.unique())
    numbers = pc.index_in(column, value_set=column.unique().take(names))
    # Rows without a list are lists of their own.
    alone = pa.array(len(names) + np.arange(len(table)), pa.int64())
    return table.append_column(LIST, pc.coalesce(numbers.cast(pa.int64()), alone))


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
    return network.requires_grad_(False).eval()


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

    labels = window.labelled_stop["label"].to_numpy()
    raw = draft(state.best).uncalibrated(window.labelled_stop)
    calibrator = fit_calibrator(window.task, config.training.calibration, raw, labels)
    evaluation = evaluate(labels, calibrator.apply(raw), seed=config.training.seed)
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
        **facts,
    }
    bundle = replace(final, profile=profile, card=card)
    return Fitted(bundle, evaluation, window, state)


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
    train, stop = (
        encode_rows(encoder, window.labelled_train),
        encode_rows(encoder, window.labelled_stop),
    )
    if config.training.model == "trees":
        growth = Growth(window.task, train, stop, config.training, torch.get_num_threads())
        state = grow(growth, on_epoch=on_epoch)
    else:
        network = new_network(config, encoder.shape, window.task)
        state = fit(network, train, stop, config.training, on_epoch=on_epoch)
    return assemble(config, window, encoder, state, facts or {})


def code_version() -> str:
    """Digest the sources of the product: also where no git is."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.py")):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def required_columns(contract: Contract) -> list[str]:
    """Name the columns of a snapshot that training reads."""
    return [column.name for column in contract.features] + ["prediction_time", "label", "state"]


def _profile(bundle: ModelBundle, rows: pa.Table) -> Profile:
    """Profile all rows, and the predictions of evenly spread ones: less cost, the same shape."""
    step = max(len(rows) // SCORED_ROWS, 1)
    predictions = bundle.predict(rows.take(np.arange(0, len(rows), step)))
    scores = bundle.network.task.summary(predictions)
    return Profile.for_encoder(bundle.encoder, scores).add(rows).add_scores(scores)

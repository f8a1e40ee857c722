"""The rows of a window: which part each plays, and how they are encoded to be learned from.

Knows tables, the contract and the split; knows nothing of models or of how they are fitted.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.config import Config
from app.contracts.records import DatasetVersion, HeldOutShare
from app.contracts.rows import Contract
from app.data.features import Encoder
from app.data.snapshots import take_snapshot
from app.data.splits import (
    GATE,
    STOP,
    TRAIN,
    Split,
    split_days,
    split_keys,
    split_shares,
)
from app.data.tables import open_tables
from app.model.tasks import LearningTask, task_of
from app.training.rows import Rows

# Name of the column that numbers the lists of a ranking.
LIST = "list"


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


def pin_window(config: Config, until: datetime, start: datetime | None = None) -> DatasetVersion:
    """Pin the rows before `until` with their outcomes as known then.

    Without a start they go back as far as the configuration says.
    """
    days = config.training.window_days
    if start is None and days is not None:
        start = until - timedelta(days=days)
    return take_snapshot(open_tables(config), config.contract, start, until, until)


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
    groups = table[LIST].to_numpy().copy() if LIST in table.column_names else None
    return Rows(encoder.transform(table), labels, groups)


def with_lists(contract: Contract, table: pa.Table) -> pa.Table:
    """Number the lists of a ranking in a column, by the order of their names; else the table."""
    if contract.group is None:
        return table
    column = table[contract.group].combine_chunks().cast(pa.string())
    names = column.unique()
    numbers = pc.index_in(column, value_set=names.take(pc.sort_indices(names)))
    # Rows without a list are lists of their own.
    alone = pa.array(len(names) + np.arange(len(table)), pa.int64())
    return table.append_column(LIST, pc.coalesce(numbers.cast(pa.int64()), alone))


def required_columns(contract: Contract) -> list[str]:
    """Name the columns of a snapshot that training reads."""
    return [column.name for column in contract.features] + ["prediction_time", "label", "state"]

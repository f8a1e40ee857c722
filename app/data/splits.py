"""Divide the rows of a window: train, stop (early stopping and calibration), gate.

Knows prediction times, ids and the split's settings; knows nothing else of the rows. Days are whole
UTC dates of prediction time, so that rows of one day, which share weather and knock-on delays,
never stand on both sides. Rows without a time that means anything are divided by a hash of their
id, or of their entity, which then stands on one side whole.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.times import day_numbers, day_of, number_of
from app.sections import SplitConfig

TRAIN, STOP, GATE = 0, 1, 2
# Rows that a hash divides are compared in so many parts, as others are day by day.
NUM_PARTS = 20


class SplitError(ValueError):
    """A window too short to be divided."""


@dataclass(frozen=True)
class Split:
    """The role of every row (TRAIN, STOP or GATE, in row order) and the days that are held out."""

    roles: npt.NDArray[np.int8]
    gate_days: tuple[date, ...]
    stop_days: tuple[date, ...]

    def mask(self, role: int) -> npt.NDArray[np.bool_]:
        """Tell which rows play a role."""
        chosen: npt.NDArray[np.bool_] = self.roles == role
        return chosen


def split_days(
    prediction_time: pa.Array | pa.ChunkedArray, end: datetime, split: SplitConfig, seed: int
) -> Split:
    """Divide rows by the day of their prediction time.

    Gate days are every n-th of the last `gate_window_days` before `end`, counted by the day's own
    number so that windows which overlap hold out the same days; `seed` chooses which. Of the others
    the latest, then every `stop_spacing`-th before it, up to `stop_days`, stop training: a run of
    days is one spell of weather, and a calibrator fitted on it takes the spell for the season. Days
    without rows count for nothing. Raises SplitError when no day is left to train on.
    """
    numbers = day_numbers(prediction_time)
    present = np.unique(numbers)
    last = number_of((end - timedelta(microseconds=1)).astimezone(UTC).date())
    recent = (present > last - split.gate_window_days) & (present <= last)
    gate = present[recent & (present % split.gate_every_days == seed % split.gate_every_days)]
    others = np.setdiff1d(present, gate)
    stop = np.sort(others[:: -split.stop_spacing][: split.stop_days])
    if len(others) <= split.stop_days:
        raise SplitError(
            f"{len(present)} days with rows leave none to train on: {len(gate)} are gate days and "
            f"{len(stop)} stop training; widen the window or lower training.split.stop_days"
        )
    roles = np.full(len(numbers), TRAIN, np.int8)
    roles[np.isin(numbers, stop)] = STOP
    roles[np.isin(numbers, gate)] = GATE
    return Split(roles, tuple(map(day_of, gate)), tuple(map(day_of, stop)))


def split_shares(keys: pa.Array | pa.ChunkedArray, split: SplitConfig, seed: int) -> Split:
    """Divide rows by a hash of their key, an id or an entity: equal keys stand together.

    A key has its side for good, whatever other rows a window holds, so that windows which overlap
    hold out the same rows; `seed` chooses which. Raises SplitError when a side stays empty.
    """
    places = key_places(keys, seed)
    roles = np.full(len(places), TRAIN, np.int8)
    roles[places < split.gate_share + split.stop_share] = STOP
    roles[places < split.gate_share] = GATE
    counts = np.bincount(roles, minlength=3)
    if not counts[[TRAIN, STOP]].all():
        raise SplitError(
            f"{len(places)} rows leave {counts[TRAIN]} to train on and {counts[STOP]} to stop "
            "training; bring more rows or change the shares of training.split"
        )
    return Split(roles, (), ())


def key_places(keys: pa.Array | pa.ChunkedArray, seed: int) -> npt.NDArray[np.float64]:
    """Place every key in [0, 1), evenly and for good.

    >>> key_places(pa.array(["a", "b", "a"]), 7).round(3).tolist()
    [0.867, 0.282, 0.867]
    """
    if isinstance(keys, pa.ChunkedArray):
        keys = keys.combine_chunks()
    encoded = keys.dictionary_encode()
    salt = seed.to_bytes(8, "little", signed=True)
    numbers = [
        int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8, salt=salt).digest(), "little")
        for key in encoded.dictionary.to_pylist()
    ]
    # 53 bits are what a float holds; with 64 the largest would round up to 1.
    places = (np.array(numbers, np.uint64) >> np.uint64(11)).astype(np.float64) / 2.0**53
    placed: npt.NDArray[np.float64] = places[encoded.indices.to_numpy(zero_copy_only=False)]
    return placed


def split_keys(rows: pa.Table, by: str, id_column: str, entity: str | None) -> pa.Array:
    """Give the key of every row: its entity, where the split is by entity and it has one, or id."""
    ids = rows[id_column].combine_chunks()
    if by != "entity" or entity is None:
        return ids
    return pc.coalesce(rows[entity].combine_chunks(), ids)


def parts_of(places: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.int64]:
    """Number the parts, of equal width, into which held-out places fall."""
    return np.minimum(places / share * NUM_PARTS, NUM_PARTS - 1).astype(np.int64)

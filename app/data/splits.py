"""Divide the days of a window: train, stop (early stopping and calibration), gate.

Knows prediction times and the split's settings; knows nothing of the rows themselves. Days are
whole UTC dates of prediction time, so that rows of one day, which share weather and knock-on
delays, never stand on both sides.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.contracts.times import day_numbers, day_of, number_of
from app.sections import SplitConfig

TRAIN, STOP, GATE = 0, 1, 2


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

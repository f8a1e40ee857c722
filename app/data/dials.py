"""Fit the dials of training and of the loop to the size of a table.

Knows numbers of rows; knows nothing of columns. The defaults of a configuration are for tables of
tens of thousands of rows and more: little is proposed there.
"""

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from app.contracts.times import EPOCH
from app.data.splits import GATE, STOP, TRAIN, SplitError, split_days
from app.sections import SplitConfig

LARGE = 40_000
MIN_SPLIT_DAYS = 30
# All of a table's history may give days to the gate: a file is seldom about the last weeks.
WHOLE_HISTORY_DAYS = 36_500
STEPS = 1_500
# Members that share weights, and little of each: small tables are learned by heart otherwise.
SMALL_NETWORK = {"hidden": 64, "num_layers": 2, "num_members": 8, "dropout": 0.2}
# What was best on the flights: four members have .7114 where one network has .7061, and with more
# decay an epoch too many does little harm (docs/log.md).
LARGE_TRAINING = {
    "min_epochs": 4,
    "patience": 3,
    "learning_rate": 0.002,
    "weight_decay": 0.3,
    "network": {"hidden": 192, "num_layers": 2, "num_members": 4, "dropout": 0.3},
}


def split_by_day(days: Counter[int] | None, num_rows: int) -> dict[str, Any] | None:
    """Divide a history by its days; None where it has too few for that."""
    if days is None or len(days) < MIN_SPLIT_DAYS:
        return None
    num_stop = max(3, len(days) // 8)
    split = {
        "gate_window_days": WHOLE_HISTORY_DAYS,
        "gate_every_days": 5,
        "stop_days": num_stop,
        "stop_spacing": 3 if len(days) >= 8 * num_stop else 1,
    }
    numbers = np.array(sorted(days), np.int64)
    times = pa.array((numbers * 86_400_000_000).tolist(), pa.timestamp("us", tz="UTC"))
    end = EPOCH + timedelta(days=int(numbers[-1]) + 1)
    try:
        roles = split_days(times, end, SplitConfig.model_validate(split), seed=7).roles
    except SplitError:
        return None
    counts = np.bincount(roles, weights=[days[n] for n in numbers.tolist()], minlength=3)
    shares = counts / counts.sum()
    fair = shares[TRAIN] >= 0.4 and shares[GATE] >= 0.08 and shares[STOP] >= 0.05
    return split if fair and (roles == GATE).sum() >= 5 and num_rows >= 200 else None


def training_dials(num_known: int, split: dict[str, Any]) -> dict[str, Any]:
    """Choose steps and network for a number of rows with known outcomes."""
    if num_known >= LARGE:
        return {**({"split": split} if split else {}), **LARGE_TRAINING}
    batch = int(min(max(2 ** round(math.log2(max(num_known / 40, 1))), 16), 512))
    steps_an_epoch = max(0.6 * num_known / batch, 1)
    epochs = int(min(max(round(STEPS / steps_an_epoch), 8), 60))
    return {
        "split": split,
        "epochs": epochs,
        "min_epochs": max(epochs // 3, 2),
        "patience": max(epochs // 4, 3),
        "batch_rows": batch,
        "learning_rate": 0.002,
        "weight_decay": 0.1,
        "averaging": 0.98,
        # Of steps this small a second thread costs more than it gives.
        "threads_per_worker": 1,
        "network": SMALL_NETWORK,
    }


def feature_dials(num_known: int) -> dict[str, Any]:
    """Let rarer categories count, and numbers have fewer bins, in a small table."""
    if num_known >= LARGE:
        return {}
    return {"num_bins": 8, "min_category_count": max(2, min(20, num_known // 200))}


def loop_dials(num_known: int, num_gate: int, positive_share: float) -> dict[str, Any]:
    """Scale what the loop waits for, and what the gate bears on few rows.

    A perfectly calibrated model has an expected calibration error all the same: 10 bins of a tenth
    of the rows each miss by about 0.8 of a binomial's standard error.
    """
    if num_known >= LARGE:
        return {}
    chance = 0.8 * math.sqrt(positive_share * (1 - positive_share) / max(num_gate / 10, 1))
    quarter = max(num_known // 4, 50)
    return {
        "governor": {"min_new_labels": min(max(num_known // 2, 20), 20_000)},
        "gate": {
            "min_rows": min(max(num_gate // 2, 10), 2_000),
            "max_calibration_error": round(min(max(0.1, 0.05 + 1.5 * chance), 0.35), 2),
        },
        "diagnosis": {"min_labels": min(quarter, 3_000)},
        "watch": {"min_labels": min(max(quarter, 100), 3_000)},
    }


def history_end(micros: float) -> datetime:
    """Give the time so many microseconds after 1970 began."""
    return EPOCH.astimezone(UTC) + timedelta(microseconds=micros)

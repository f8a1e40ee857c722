from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from app.contracts.rows import TIMESTAMP
from app.data.splits import GATE, STOP, TRAIN, Split, SplitError, split_days
from app.sections import SplitConfig

START = datetime(2024, 1, 1, tzinfo=UTC)
SPLIT = SplitConfig(gate_window_days=20, gate_every_days=4, stop_days=3, stop_spacing=1)


def times(num_days: int, per_day: int = 4, first: datetime = START) -> pa.Array:
    moments = [
        first + timedelta(days=d, hours=6 * h) for d in range(num_days) for h in range(per_day)
    ]
    return pa.array(moments, TIMESTAMP)


def days_of(split: Split, moments: pa.Array, role: int) -> set[date]:
    return {m.date() for m in np.array(moments.to_pylist())[split.mask(role)]}


def test_every_day_plays_one_role() -> None:
    moments = times(60)
    split = split_days(moments, START + timedelta(days=60), SPLIT, seed=1)
    parts = [days_of(split, moments, role) for role in (TRAIN, STOP, GATE)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 60
    assert parts[1] == set(split.stop_days)
    assert parts[2] == set(split.gate_days)


def test_gate_days_are_every_nth_of_the_last_days_before_the_end() -> None:
    split = split_days(times(60), START + timedelta(days=60), SPLIT, seed=1)
    assert len(split.gate_days) == 5
    assert min(split.gate_days) >= date(2024, 2, 10)
    steps = {(b - a).days for a, b in zip(split.gate_days, split.gate_days[1:], strict=False)}
    assert steps == {4}


def test_stop_days_are_the_latest_that_are_no_gate_days() -> None:
    split = split_days(times(60), START + timedelta(days=60), SPLIT, seed=1)
    last = [date(2024, 2, 29) - timedelta(days=i) for i in range(8)]
    assert (
        sorted(split.stop_days, reverse=True) == [d for d in last if d not in split.gate_days][:3]
    )


def test_windows_that_overlap_hold_out_the_same_days() -> None:
    short = split_days(times(60), START + timedelta(days=60), SPLIT, seed=1)
    longer = split_days(times(65), START + timedelta(days=65), SPLIT, seed=1)
    shared = {d for d in short.gate_days if d >= min(longer.gate_days)}
    assert shared <= set(longer.gate_days)
    assert not set(longer.stop_days) & set(short.gate_days)


def test_the_seed_chooses_the_days() -> None:
    chosen = {
        split_days(times(60), START + timedelta(days=60), SPLIT, seed).gate_days
        for seed in range(4)
    }
    assert len(chosen) == 4


def test_the_order_of_rows_does_not_matter() -> None:
    moments = times(40)
    order = np.random.default_rng(3).permutation(len(moments))
    end = START + timedelta(days=40)
    shuffled = split_days(moments.take(pa.array(order)), end, SPLIT, seed=1)
    assert (shuffled.roles == split_days(moments, end, SPLIT, seed=1).roles[order]).all()


def test_a_day_is_a_utc_day() -> None:
    late = datetime(2024, 2, 1, 23, 30, tzinfo=UTC)
    moments = pa.concat_arrays([times(31), pa.array([late], TIMESTAMP)])
    split = split_days(moments, datetime(2024, 2, 2, tzinfo=UTC), SPLIT, seed=1)
    held_out = {*split.gate_days, *split.stop_days}
    assert (split.roles[-1] != TRAIN) == (date(2024, 2, 1) in held_out)
    assert date(2024, 2, 1) in held_out


def test_a_window_too_short_to_train_on_is_refused_with_the_counts() -> None:
    with pytest.raises(SplitError, match="4 days with rows leave none to train on"):
        split_days(times(4), START + timedelta(days=4), SPLIT, seed=1)


def test_no_rows_are_refused() -> None:
    with pytest.raises(SplitError, match="0 days"):
        split_days(pa.array([], TIMESTAMP), START, SPLIT, seed=1)


def test_spaced_stop_days_start_with_the_latest_and_leave_days_between_to_train() -> None:
    spaced = SPLIT.model_copy(update={"stop_spacing": 3})
    split = split_days(times(60), START + timedelta(days=60), spaced, seed=1)
    others = [START.date() + timedelta(days=i) for i in range(60)]
    others = [day for day in others if day not in split.gate_days]
    assert list(split.stop_days) == [others[-7], others[-4], others[-1]]

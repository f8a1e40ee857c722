"""Fold batches of log into the monitor's state: (state, batch) -> state, pure and replayable.

Knows rows, keys and days; knows nothing of Ray, SQL, files or clocks. However the same log is cut
into batches, the state is worth the same evidence. What counts:

- A prediction is known by its idempotency key and prediction time: the one served first stands.
- An event is known by its row id and prediction time: the first in the log stands.
- Every distinct label report is kept until the evidence asks what was known at a time; a label may
  come before its prediction.
- Rows older than the horizon are forgotten. It moves only when a window was judged.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Contract
from app.contracts.times import MICROS_PER_DAY, day_numbers, micros_in, moment
from app.data.labels import known_labels
from app.data.profile import Profile
from app.monitoring.distinct import absent, any_repeated, first, num_distinct, whole
from app.monitoring.state import (
    EVENTS,
    LABELS,
    PREDICTIONS,
    DailyProfiles,
    FoldState,
    sample_schema,
)

LIVE_SOURCE = "serving"
SAMPLES_A_DAY = 32
MARGIN_DAYS = 14
_REPORT = ["row_id", "known_at", "label", "void"]


@dataclass(frozen=True)
class Batch:
    """Rows appended to the logs, each in the order of its log, with the columns of its table."""

    events: pa.Table
    predictions: pa.Table
    labels: pa.Table
    quarantine: pa.Table

    @property
    def num_rows(self) -> int:
        """Rows of all logs together."""
        parts = (self.events, self.predictions, self.labels, self.quarantine)
        return sum(part.num_rows for part in parts)


def fold(state: FoldState, batch: Batch, contract: Contract) -> FoldState:
    """Add the next rows of each log to the state; how far each log was read may differ."""
    state = _fold_predictions(state, batch.predictions)
    state = _fold_labels(state, batch.labels)
    state = _fold_events(state, batch.events, contract)
    return _fold_quarantine(state, batch.quarantine)


def profiled(
    state: FoldState, version: str, reference: Profile, events: pa.Table, contract: Contract
) -> FoldState:
    """Begin daily profiles of a version from the events folded so far, as if kept from the start.

    Args:
        state: what is remembered so far.
        version: digest of the version whose reference gives the bins.
        reference: training profile of that version.
        events: the events table as far as it was folded, in the order of its log.
        contract: the columns of the model.
    """
    live = first(_live(events, state.horizon), [contract.id, "prediction_time"])
    daily = DailyProfiles.on(reference).add(live)
    return replace(state, profiles={**state.profiles, version: daily})


def forget(state: FoldState, judged_until: int, horizon: int) -> FoldState:
    """Drop what no later window can see, once the window that ends at `judged_until` was judged.

    Known labels of forgotten days stay as counts. Times are microseconds since 1970.
    """
    if horizon <= state.horizon:
        counts = state.counts.plus(num_windows=1)
        return replace(state, counts=counts, judged_until=judged_until)
    old = _before(state.predictions, horizon)
    forgotten, kept = state.predictions.filter(old), state.predictions.filter(pc.invert(old))
    settled = dict(state.settled)
    for day, count in known_by_day(forgotten, state.labels, judged_until).items():
        settled[day] = settled.get(day, 0) + count
    of_forgotten = pc.is_in(state.labels["row_id"], whole(forgotten["row_id"]))
    stale = pc.less(micros_in(state.labels["known_at"]), horizon)
    matched = pc.is_in(state.labels["row_id"], whole(state.predictions["row_id"]))
    unknown = pc.and_not(stale, matched)
    num_unknown = len(state.labels.filter(unknown)["row_id"].unique())
    first_day = horizon // MICROS_PER_DAY
    return replace(
        state,
        predictions=kept,
        labels=state.labels.filter(pc.invert(pc.or_(of_forgotten, stale))),
        events=state.events.filter(pc.invert(_before(state.events, horizon))),
        samples=state.samples.filter(pc.invert(_before(state.samples, horizon))),
        counts=state.counts.plus(num_unknown_forgotten=num_unknown, num_windows=1),
        horizon=horizon,
        judged_until=judged_until,
        settled=settled,
        quarantined={day: n for day, n in state.quarantined.items() if day >= first_day},
        profiles={
            version: state.profiles[version].since(first_day)
            for version in sorted(state.profiles.keys() & set(kept["version"].unique().to_pylist()))
        },
    )


def known_by_day(predictions: pa.Table, labels: pa.Table, at: int) -> dict[int, int]:
    """Count distinct predicted rows whose outcome we knew at a time, by day of prediction."""
    outcomes = known_labels(labels, moment(at), received_by=moment(at))
    known = outcomes.filter(pc.invert(outcomes["void"]))["row_id"]
    rows = predictions.select(["row_id", "prediction_time"])
    rows = first(rows.filter(pc.is_in(rows["row_id"], whole(known))), ["row_id"])
    days, counts = np.unique(day_numbers(rows["prediction_time"]), return_counts=True)
    return {int(day): int(count) for day, count in zip(days, counts, strict=True)}


def _fold_predictions(state: FoldState, rows: pa.Table) -> FoldState:
    if not rows.num_rows:
        return state
    named = rows.rename_columns({"idempotency_key": "key"}).select(PREDICTIONS.names)
    fresh = _remembered(named.cast(PREDICTIONS), state.horizon)
    together = pa.concat_tables([state.predictions, fresh])
    if any_repeated(state.predictions["key"], fresh["key"]):
        order = pc.sort_indices(together["served_at"])
        together = first(together.take(order), ["key", "prediction_time"])
    added = together.num_rows - state.predictions.num_rows
    counts = state.counts.plus(
        num_predictions=added,
        num_repeated_predictions=fresh.num_rows - added,
        num_expired=rows.num_rows - fresh.num_rows,
    )
    return replace(state, predictions=together, counts=counts)


def _fold_labels(state: FoldState, rows: pa.Table) -> FoldState:
    if not rows.num_rows:
        return state
    mine = rows.select(LABELS.names).cast(LABELS)
    fresh = mine.filter(pc.greater_equal(micros_in(mine["known_at"]), state.horizon))
    together = pa.concat_tables([state.labels, fresh])
    added, revised = fresh.num_rows, 0
    if any_repeated(state.labels["row_id"], fresh["row_id"]):
        together = first(together, LABELS.names)
        added = num_distinct(together, _REPORT) - num_distinct(state.labels, _REPORT)
        new_ids = num_distinct(together, ["row_id"]) - num_distinct(state.labels, ["row_id"])
        revised = added - new_ids
    counts = state.counts.plus(
        num_labels=added,
        num_repeated_labels=fresh.num_rows - added,
        num_revised_labels=revised,
        num_expired=rows.num_rows - fresh.num_rows,
    )
    return replace(state, labels=together, counts=counts)


def _fold_events(state: FoldState, rows: pa.Table, contract: Contract) -> FoldState:
    if not rows.num_rows:
        return state
    named = rows.append_column("row_id", rows[contract.id])
    live = _live(named, state.horizon)
    fresh = first(live, ["row_id", "prediction_time"])
    if any_repeated(state.events["row_id"], fresh["row_id"]):
        fresh = absent(fresh, state.events, EVENTS.names)
    counts = state.counts.plus(
        num_events=fresh.num_rows, num_repeated_events=live.num_rows - fresh.num_rows
    )
    profiles = {version: daily.add(fresh) for version, daily in state.profiles.items()}
    return replace(
        state,
        events=pa.concat_tables([state.events, fresh.select(EVENTS.names).cast(EVENTS)]),
        samples=_sampled(state.samples, fresh.select(sample_schema(contract).names), contract.id),
        counts=counts,
        profiles=profiles,
    )


def _fold_quarantine(state: FoldState, rows: pa.Table) -> FoldState:
    live = rows.filter(pc.equal(rows["source"], LIVE_SOURCE))
    if not live.num_rows:
        return state
    days = day_numbers(live["ingested_at"])
    quarantined = dict(state.quarantined)
    for day, count in zip(*np.unique(days, return_counts=True), strict=True):
        quarantined[int(day)] = quarantined.get(int(day), 0) + int(count)
    counts = state.counts.plus(num_quarantined=live.num_rows)
    return replace(state, quarantined=quarantined, counts=counts)


def _live(events: pa.Table, horizon: int) -> pa.Table:
    """Keep rows that the endpoint captured and that are not older than the memory."""
    return _remembered(events.filter(pc.equal(events["source"], LIVE_SOURCE)), horizon)


def _remembered(rows: pa.Table, horizon: int) -> pa.Table:
    return rows.filter(pc.invert(_before(rows, horizon)))


def _before(rows: pa.Table, horizon: int) -> pa.ChunkedArray:
    return pc.less(micros_in(rows["prediction_time"]), horizon)


def _sampled(samples: pa.Table, fresh: pa.Table, id_column: str) -> pa.Table:
    """Keep so many rows of each day, chosen by a digest of their id: the same in any order."""
    together = pa.concat_tables([samples, fresh.cast(samples.schema)])
    digests = (
        hashlib.blake2b(row_id.encode(), digest_size=8).digest()
        for row_id in together[id_column].to_pylist()
    )
    draws = np.frombuffer(b"".join(digests), dtype=">u8")
    numbers = day_numbers(together["prediction_time"])
    ranked = np.lexsort((draws, numbers))
    days = numbers[ranked]
    place = np.arange(len(days)) - np.searchsorted(days, days, side="left")
    return together.take(pa.array(np.sort(ranked[place < SAMPLES_A_DAY])))

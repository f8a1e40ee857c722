"""Compute window features as of any time: the one definition, for history and for serving.

Knows declared windows, past events and revisions of outcomes; knows nothing of tables, stores or
Ray. All arithmetic is exact (see exact.py), so that a value depends on no order of arrival, and
adding and taking back gives what counting again gives, bit for bit.

Every fact counts from a moment until before another one: an event from when it is known, and after
its own prediction time, until the window has passed it; an outcome from when it is known until it
is revised. The value as of t adds up what counts at t.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.contracts.rows import Contract
from app.contracts.times import MICROS_PER_HOUR
from app.contracts.windows import Window
from app.data.exact import quotient, ratio, split
from app.data.facts import REVISIONS, codes_of, distinct_events, places_in
from app.data.sweeps import latest, merge_spans, tally

Ints = NDArray[np.int64]
FOREVER = 2**62


class Items(NamedTuple):
    """What one window counts: the event, from `start` until before `end`, with its amount."""

    event: Ints
    start: Ints
    end: Ints
    amount: NDArray[np.float64]


class Steps(NamedTuple):
    """What is known of outcomes: the event has this label from `start` until before `end`."""

    event: Ints
    start: Ints
    end: Ints
    label: Ints | NDArray[np.float64]


def longest(windows: Sequence[Window]) -> int:
    """Give the span of the longest window, in microseconds."""
    return max((window.span for window in windows), default=0)


def window_values(
    contract: Contract,
    facts: pa.Table,
    revisions: pa.Table,
    rows: pa.Table,
    as_of: Ints,
    windows: Sequence[Window] | None = None,
) -> pa.Table:
    """Compute windows for each row as of its own moment: nullable float64 columns.

    Args:
        contract: declares the windows and when a fact is known.
        facts: all events that may count, in any order and with repeats; see facts.fact_schema.
        revisions: all outcomes that may count, likewise.
        rows: has the entity columns.
        as_of: microseconds since 1970, one a row.
        windows: those of the contract that are wanted; absent: all.
    """
    facts = distinct_events(facts)
    windows = contract.windows if windows is None else windows
    if not any(window.of_label for window in windows):
        revisions = REVISIONS.empty_table()
    steps = outcome_steps(facts, revisions, longest(contract.windows))
    columns = {}
    for window in windows:
        names = pc.unique(facts[window.key].combine_chunks()).drop_null()
        groups, asked = (places_in(table[window.key], names) for table in (facts, rows))
        items = items_of(window, facts, steps)
        columns[window.name] = _values(window, facts, items, groups, (asked, as_of))
        there = rows[window.key].is_valid()
        columns[window.name] = pc.if_else(there, columns[window.name], None)
    return pa.table(columns)


def items_of(window: Window, facts: pa.Table, steps: Steps) -> Items:
    """List what a window counts; what is known too late for it is left out."""
    time, known_from = facts["_time"].to_numpy(), facts["_known_from"].to_numpy()
    # Strictly after its own time: no row sees itself, or what was asked with it.
    start, end = np.maximum(known_from, time + 1), time + window.span + 1
    if window.of_label:
        event, amount = steps.event, steps.label.astype(np.float64)
        start = np.maximum(start[event], steps.start)
        end = np.minimum(end[event], steps.end)
    else:
        event, amount = np.arange(len(time)), _amounts(window, facts)
    there = facts[window.key].is_valid().to_numpy()[event]
    counted = (start < end) & there & ~np.isnan(amount)
    return Items(event[counted], start[counted], end[counted], amount[counted])


def outcome_steps(facts: pa.Table, revisions: pa.Table, reach: int) -> Steps:
    """Say for every event which label was known from when to when.

    As of t the revision known last counts, of those that are known by t, then the one received
    last, then as in labels.known_labels. A revision that was known more than `reach` microseconds
    before its event was asked is none: nobody remembers it.
    """
    ids = pc.unique(facts["_id"].combine_chunks())
    of_event, of_revision = (places_in(c, ids) for c in (facts["_id"], revisions["row_id"]))
    order = np.argsort(of_revision, kind="stable")
    ordered = of_revision[order]
    first = np.searchsorted(ordered, of_event, "left")
    last = np.searchsorted(ordered, of_event, "right")
    number = last - first
    event = np.repeat(np.arange(len(of_event)), number)
    inside = np.arange(len(event)) - np.repeat(np.cumsum(number) - number, number)
    revision = order[np.repeat(first, number) + inside]
    known = {name: revisions[name].to_numpy() for name in REVISIONS.names[1:]}
    kept = known["known_from"][revision] >= facts["_time"].to_numpy()[event] - reach
    event, revision = event[kept], revision[kept]
    columns = {name: values[revision] for name, values in known.items()}
    ranking = [columns[name] for name in ("label", "void", "received_at", "known_at")]
    best_first = np.lexsort((*ranking, event))
    rank = np.empty_like(best_first)
    rank[best_first] = np.arange(len(rank))
    order = np.lexsort((rank, columns["known_from"], event))
    # Ranks rise with the event, so that the highest so far is one of the same event.
    best = best_first[np.maximum.accumulate(rank[order])] if len(order) else order
    start, event = columns["known_from"][order], event[order]
    end = np.full(len(start), FOREVER)
    end[:-1] = np.where(np.diff(event) == 0, start[1:], FOREVER)
    told = (columns["void"][best] == 0) & (start < end)
    return Steps(event[told], start[told], end[told], columns["label"][best][told])


def finished(
    window: Window, counts: Ints, parts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Make values of counts [n] and exact sums [4, n]; tells which there are."""
    if window.aggregate in ("count", "distinct"):
        return counts.astype(np.float64), np.ones(len(counts), bool)
    if window.aggregate == "sum":
        return ratio(parts, np.ones_like(counts)), np.ones(len(counts), bool)
    return ratio(parts, np.maximum(counts, 1)), counts > 0


def value_of(window: Window, count: int, parts: Sequence[int]) -> float | None:
    """Make one value of a count and an exact sum, where there is one: `finished`, for one row."""
    if window.aggregate in ("count", "distinct"):
        return float(count)
    if window.aggregate == "sum":
        return quotient(parts, 1)
    return quotient(parts, count) if count else None


def hours_since(
    last: Ints, as_of: Ints, span: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give the hours since a time, where it is within the span."""
    return (as_of - last) / MICROS_PER_HOUR, last >= as_of - span


def _values(
    window: Window, facts: pa.Table, items: Items, groups: Ints, asked: tuple[Ints, Ints]
) -> pa.Array:
    """Compute one window for rows that are asked in some groups at some moments."""
    group = groups[items.event]
    if window.aggregate == "time_since_last":
        last, there = latest(group, items.start, facts["_time"].to_numpy()[items.event], *asked)
        values, within = hours_since(last, asked[1], window.span)
        return pa.array(values, mask=~(there & within))
    start, end, weights = items.start, items.end, weights_of(window, items.amount)
    if window.aggregate == "distinct":
        names = facts[window.of].combine_chunks()
        pairs = group * (len(names) + 1) + codes_of(names)[items.event]
        pairs, start, end = merge_spans(pairs, start, end)
        group, weights = pairs // (len(names) + 1), np.ones((1, len(pairs)), np.int64)
    entries = np.concatenate([weights, -weights], axis=1)
    sums = tally(np.tile(group, 2), np.concatenate([start, end]), entries, *asked)
    values, there = finished(window, sums[0], sums[1:])
    return pa.array(values, mask=~there)


def weights_of(window: Window, amount: NDArray[np.float64]) -> Ints:
    """Give what each item adds: 1 to the count, and parts where a sum is asked for: [1 or 5, n]."""
    counts = np.ones((1, len(amount)), np.int64)
    if window.aggregate not in ("sum", "mean", "share"):
        return counts
    return np.concatenate([counts, split(amount)])


def _amounts(window: Window, facts: pa.Table) -> NDArray[np.float64]:
    """Give the amount of every event; NaN where it has none and is left out."""
    if window.of is None:
        return np.zeros(len(facts))
    if window.aggregate in ("sum", "mean"):
        amounts: NDArray[np.float64] = facts[window.of].to_numpy()
        return amounts
    return np.where(facts[window.of].is_valid().to_numpy(), 0.0, np.nan)

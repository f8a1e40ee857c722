"""A small world for window features: a contract with every aggregate, streams, and an oracle.

The oracle counts in fractions, event by event, straight from the words of the definition.
"""

import random
from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from app.contracts.rows import TIMESTAMP, Column, Contract
from app.contracts.times import micros_of
from app.contracts.windows import LIVE_SOURCE, Arrivals, Window
from app.data.facts import event_facts, label_facts
from app.data.windows import window_values

HOUR = 3_600_000_000
DAY = 24 * HOUR
T0 = 400 * DAY
WINDOWS = (
    Window(name="trips", aggregate="count", hours=5),
    Window(name="priced", aggregate="count", of="price", window_days=1),
    Window(name="spent", aggregate="sum", of="price", hours=7),
    Window(name="mean_price", aggregate="mean", of="price", hours=7),
    Window(name="late_share", aggregate="share", of="label", hours=9),
    Window(name="late_sum", aggregate="sum", of="late", entity="depot", hours=30),
    Window(name="depot_mean", aggregate="mean", of="price", entity="depot", hours=20),
    Window(name="places", aggregate="distinct", of="place", hours=6),
    Window(name="since_last", aggregate="time_since_last"),
    Window(name="since_near", aggregate="time_since_last", entity="depot", hours=2),
)


def make_contract(**arrivals: Any) -> Contract:
    """Make the contract of trips."""
    return Contract(
        id="trip",
        event_time="leaves",
        lead_minutes=30,
        entity="rider",
        label="late",
        columns=(
            Column(name="trip", kind="identifier", feature=False),
            Column(name="leaves", kind="time", feature=False),
            Column(name="rider", kind="identifier", nullable=True, feature=False),
            Column(name="depot", kind="category", nullable=True),
            Column(name="place", kind="category", nullable=True),
            Column(name="price", kind="number", nullable=True),
        ),
        windows=WINDOWS,
        arrivals=Arrivals(**arrivals),
    )


def make_events(events: Sequence[dict[str, Any]], contract: Contract) -> pa.Table:
    """Make rows of the events table; times in microseconds."""
    lead = contract.lead // timedelta(microseconds=1)
    columns = {
        name: pa.array([event[name] for event in events], contract.schema.field(name).type)
        for name in contract.schema.names[2:]
    }
    return pa.table(
        {
            "trip": pa.array([event["id"] for event in events], pa.string()),
            "leaves": times([event["time"] + lead for event in events]),
            **{
                name: pa.array(cells, contract.schema.field(name).type)
                for name, cells in columns.items()
            },
            "prediction_time": times([event["time"] for event in events]),
            "source": pa.array([event["source"] for event in events], pa.string()),
            "ingested_at": times([event["arrival"] for event in events]),
        }
    )


def make_labels(labels: Sequence[dict[str, Any]]) -> pa.Table:
    """Make rows of the labels table."""
    return pa.table(
        {
            "row_id": pa.array([label["id"] for label in labels], pa.string()),
            "label": pa.array([label["label"] for label in labels], pa.int8()),
            "void": pa.array([label["label"] is None for label in labels], pa.bool_()),
            "known_at": times([label["known_at"] for label in labels]),
            "received_at": times([label["arrival"] for label in labels]),
            "source": pa.array([label["source"] for label in labels], pa.string()),
        }
    )


def times(micros: Sequence[int]) -> pa.Array:
    """Make a column of times."""
    return pa.array(micros, pa.int64()).cast(TIMESTAMP)


def make_stream(seed: int, size: int = 220) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make events and outcomes of forty days: late, out of order, twice, contradicting, void."""
    chance = random.Random(seed)
    events, labels = [], []
    for number in range(size):
        time = T0 + chance.randrange(40 * DAY // HOUR) * HOUR + chance.choice([0, 0, 1])
        delay = chance.choice([0, 0, HOUR, 30 * HOUR, 4 * DAY, -2 * HOUR])
        event = {
            "id": f"t{number}",
            "time": time,
            "arrival": time + delay,
            "source": chance.choice([LIVE_SOURCE, LIVE_SOURCE, "ingest:x"]),
            "rider": chance.choice(["a", "b", "c", None]),
            "depot": chance.choice(["north", "south", None]),
            "place": chance.choice(["p", "q", "r", None]),
            "price": chance.choice([None, 0.1, 0.2, 1e15, -1e15, chance.gauss(0, 100)]),
        }
        events.append(event)
        if chance.random() < 0.15:
            events.append({**event, "price": 7.7, "arrival": event["arrival"] - 3 * HOUR})
        if chance.random() < 0.1:
            events.append({**event, "place": "q", "rider": "b"})
        for _ in range(chance.choice([0, 1, 1, 2])):
            known = time + chance.choice([1, 6, 30, 100, 800, -5]) * HOUR
            labels.append(
                {
                    "id": event["id"],
                    "known_at": known,
                    "arrival": known + chance.choice([0, 0, 50 * HOUR]),
                    "source": chance.choice([LIVE_SOURCE, "ingest:x"]),
                    "label": chance.choice([0, 1, None]),
                }
            )
    return events, labels


def bits(table: pa.Table) -> list[list[int | None]]:
    """Give the columns of doubles as whole numbers, to compare bit for bit."""
    return [
        [None if v is None else int(np.float64(v).view(np.int64)) for v in column.to_pylist()]
        for column in table.columns
    ]


def offline(
    contract: Contract, events: pa.Table, labels: pa.Table, rows: pa.Table, as_of: Any
) -> pa.Table:
    """Compute the windows of rows by the product's own path for history."""
    facts, revisions = event_facts(events, contract), label_facts(labels, contract.arrivals)
    return window_values(contract, facts, revisions, rows, as_of)


def oracle(
    contract: Contract,
    events: Sequence[dict[str, Any]],
    labels: Sequence[dict[str, Any]],
    row: dict[str, Any],
    t: int,
) -> list[float | None]:
    """Compute every window of one row, slowly."""
    return [
        None if row[window.key] is None else _one(contract, window, events, labels, row, t)
        for window in contract.windows
    ]


def known_from(fact: dict[str, Any], own: int, arrivals: Arrivals) -> int:
    """Say from when on a fact is known."""
    until = arrivals.backfilled_until
    late = fact["source"] == LIVE_SOURCE or (until and fact["arrival"] > micros_of(until))
    return max(own, fact["arrival"] + arrivals.settle) if late else own


def _one(
    contract: Contract,
    window: Window,
    events: Sequence[dict[str, Any]],
    labels: Sequence[dict[str, Any]],
    row: dict[str, Any],
    t: int,
) -> float | None:
    arrivals = contract.arrivals
    inside = [
        event
        for event in _first_arrived(events, arrivals)
        if event[window.key] == row[window.key]
        and t - window.span <= event["time"] < t
        and known_from(event, event["time"], arrivals) <= t
    ]
    if window.aggregate == "time_since_last":
        last = max((event["time"] for event in inside), default=None)
        return None if last is None else float(Fraction(t - last, HOUR))
    if window.of is None:
        return float(len(inside))
    if window.of_label:
        reach = max(each.span for each in contract.windows)
        cells = [_outcome(event, labels, arrivals, t, reach) for event in inside]
    else:
        cells = [event[window.of] for event in inside]
    there = [cell for cell in cells if cell is not None]
    if window.aggregate == "count":
        return float(len(there))
    if window.aggregate == "distinct":
        return float(len(set(there)))
    # The stated grain: multiples of 2**-64.
    total = sum((Fraction(round(Fraction(cell) * 2**64), 2**64) for cell in there), Fraction(0))
    if window.aggregate == "sum":
        return float(total)
    return float(total / len(there)) if there else None


def _first_arrived(events: Sequence[dict[str, Any]], arrivals: Arrivals) -> list[dict[str, Any]]:
    first: dict[Any, dict[str, Any]] = {}

    def order(event: dict[str, Any]) -> Any:
        cells = [event[name] for name in ("depot", "place", "price", "rider")]
        known = known_from(event, event["time"], arrivals)
        return event["arrival"], known, [(cell is None, cell) for cell in cells]

    for event in events:
        key = event["id"], event["time"]
        if key not in first or order(event) < order(first[key]):
            first[key] = event
    return list(first.values())


def _outcome(
    event: dict[str, Any],
    labels: Sequence[dict[str, Any]],
    arrivals: Arrivals,
    t: int,
    reach: int,
) -> int | None:
    known = [
        (
            label["known_at"],
            label["arrival"],
            label["label"] is None,
            -1 if label["label"] is None else label["label"],
        )
        for label in labels
        if label["id"] == event["id"]
        and event["time"] - reach <= known_from(label, label["known_at"], arrivals) <= t
    ]
    if not known:
        return None
    *_, void, label = max(known)
    return None if void else int(label)

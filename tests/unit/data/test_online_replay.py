"""Eight months of real flights, replayed: what is served equals history, bit for bit."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from app.config import Config
from app.contracts.rows import TIMESTAMP, Contract
from app.contracts.times import micros_in
from app.contracts.windows import LIVE_SOURCE
from app.data.facts import Ints, asked_at, event_facts, label_facts
from app.data.flights import Flights, read_flights
from app.data.online import OnlineStore
from app.data.windows import window_values
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key

HOUR = 3_600_000_000
NUM_FLIGHTS = 220_000
WINDOWS = """
- {name: tail_flights_7d, entity: tail, aggregate: count, window_days: 7}
- {name: tail_late_share_28d, aggregate: share, of: label, window_days: 28}
- {name: origin_late_share_28d, entity: origin, aggregate: share, of: label, window_days: 28}
- {name: destination_late_3d, entity: destination, aggregate: sum, of: label, window_days: 3}
- {name: carrier_mean_distance_1d, entity: carrier, aggregate: mean, of: distance, hours: 24}
- {name: carrier_padding_14d, entity: carrier, aggregate: sum, of: padding_minutes, window_days: 14}
- {name: since_last, entity: tail, aggregate: time_since_last}
- {name: distinct_destinations_30d, aggregate: distinct, of: destination, window_days: 30}
"""


def made_live(rows: pa.Table, own: str, arrival_name: str, seed: int) -> pa.Table:
    """Let rows arrive at their own time, one in fifty later by up to two days."""
    chance = np.random.default_rng(seed)
    arrival = micros_in(rows[own]).to_numpy() + chance.integers(0, 5_000_000, rows.num_rows)
    late = chance.random(rows.num_rows) < 0.02
    arrival = np.where(late, arrival + chance.integers(0, 48 * HOUR, rows.num_rows), arrival)
    rows = rows.append_column(arrival_name, pa.array(arrival).cast(TIMESTAMP))
    return rows.append_column("source", pa.repeat(LIVE_SOURCE, rows.num_rows))


def flights_as_they_come(config: Config, contract: Contract) -> tuple[pa.Table, pa.Table]:
    """Read 220,000 flights; one row in a hundred comes twice, one outcome in fifty is revised."""
    flights = read_flights(config.source, Pseudonymiser(pseudonym_key(config)))
    flights = Flights(flights.events.slice(0, NUM_FLIGHTS), flights.labels.slice(0, NUM_FLIGHTS))
    asked = micros_in(flights.events["scheduled_departure"]).to_numpy() - 60 * 60_000_000
    events = flights.events.append_column("prediction_time", pa.array(asked).cast(TIMESTAMP))
    chance = np.random.default_rng(5)
    again = events.take(pa.array(np.flatnonzero(chance.random(events.num_rows) < 0.01)))
    events = pa.concat_tables(
        [
            made_live(events, "prediction_time", "ingested_at", 1),
            made_live(again, "prediction_time", "ingested_at", 2),
        ]
    )
    revised = flights.labels.filter(pa.array(chance.random(flights.labels.num_rows) < 0.02))
    turned = pa.array(1 - revised["label"].fill_null(0).to_numpy(), pa.int8())
    later = pa.array(micros_in(revised["known_at"]).to_numpy() + 30 * HOUR).cast(TIMESTAMP)
    changes = {"label": turned, "void": pa.repeat(False, len(turned)), "known_at": later}
    for name, cells in changes.items():
        revised = revised.set_column(revised.schema.get_field_index(name), name, cells)
    labels = pa.concat_tables([flights.labels, revised.cast(flights.labels.schema)])
    return events, made_live(labels, "known_at", "received_at", 3)


def ticks(arrival: Ints, edges: Ints) -> Iterator[pa.Array]:
    """Give the places of what arrives up to each edge, in order of arrival."""
    order = np.argsort(arrival, kind="stable")
    bounds = np.searchsorted(arrival[order], edges, side="right")
    for first, last in zip([0, *bounds[:-1]], bounds, strict=True):
        yield pa.array(order[first:last])


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_replayed_flights_give_online_what_history_gives(flights: Config, tmp_path: Path) -> None:
    document = flights.contract.model_dump() | {"windows": yaml.safe_load(WINDOWS)}
    contract = Contract.model_validate(document)
    events, labels = flights_as_they_come(flights, contract)
    as_of = asked_at(events)
    began = time.process_time()
    facts, revisions = event_facts(events, contract), label_facts(labels, contract.arrivals)
    history = window_values(contract, facts, revisions, events, as_of)
    print(
        f"\nhistory: {events.num_rows:,} rows in {time.process_time() - began:.1f} s of processor"
    )
    store = OnlineStore(tmp_path / "online", contract, 24 * HOUR)
    edges = np.arange(as_of.min(), facts["_arrival"].to_numpy().max() + 6 * HOUR, 6 * HOUR)
    seconds, num_compared, num_different, num_filled = [0.0, 0.0], 0, 0, 0
    for edge, new, told, asked in zip(
        edges.tolist(),
        ticks(facts["_arrival"].to_numpy(), edges),
        ticks(revisions["received_at"].to_numpy(), edges),
        ticks(as_of, edges),
        strict=True,
    ):
        began = time.process_time()
        store.update(facts.take(new), revisions.take(told), edge)
        middle = time.process_time()
        online = store.values(events.take(asked), as_of[asked.to_numpy()])
        seconds = [seconds[0] + middle - began, seconds[1] + time.process_time() - middle]
        for name in online.column_names:
            mine, theirs = online[name], history[name].take(asked)
            there = mine.is_valid().to_numpy()
            assert (there == theirs.is_valid().to_numpy()).all(), name
            same = mine.to_numpy().view(np.int64) == theirs.to_numpy().view(np.int64)
            num_compared += len(there)
            num_different += int((there & ~same).sum())
            num_filled += int(there.sum())
    size = sum(path.stat().st_size for path in (tmp_path / "online").iterdir())
    store.close()
    print(
        f"{num_compared:,} values compared, {num_filled:,} of them not null, "
        f"{num_different} differ; processor: "
        f"{1e6 * seconds[0] / events.num_rows:.0f} µs an event to update, "
        f"{1e6 * seconds[1] / events.num_rows:.0f} µs a row to look up, {size / 2**20:.0f} MiB"
    )
    assert num_compared >= 8 * 200_000
    assert num_filled > 0.8 * num_compared
    assert num_different == 0

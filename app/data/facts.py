"""Turn rows of the tables into the facts that windows count: when it was, from when on it is known.

Knows the tables' columns and the rule of what counts as known when; knows nothing of windows'
arithmetic. Times are microseconds since 1970, UTC.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.contracts.rows import Contract
from app.contracts.times import micros_in, micros_of
from app.contracts.windows import LIVE_SOURCE, Arrivals, Window

Ints = NDArray[np.int64]
# The contract's own columns begin with a letter.
FACT_TIMES = ("_time", "_arrival", "_known_from")
REVISIONS = pa.schema(
    [
        ("row_id", pa.string()),
        ("known_at", pa.int64()),
        ("received_at", pa.int64()),
        ("void", pa.int64()),
        ("label", pa.int64()),
        ("known_from", pa.int64()),
    ]
)


def revision_schema(label: pa.DataType) -> pa.Schema:
    """Give REVISIONS for labels of a type in the tables; see Contract.label_type."""
    if not pa.types.is_floating(label):
        return REVISIONS
    place = REVISIONS.get_field_index("label")
    return REVISIONS.set(place, pa.field("label", pa.float64()))


def used_columns(windows: Sequence[Window]) -> list[str]:
    """Name the columns of an event that windows read."""
    subjects = {w.of for w in windows if w.of is not None and not w.of_label}
    return sorted({w.key for w in windows} | subjects)


def fact_schema(contract: Contract) -> pa.Schema:
    """Give the columns of an event as windows see it: times in microseconds since 1970."""
    times = [(name, pa.int64()) for name in FACT_TIMES]
    used = [(n, contract.by_name[n].arrow_type) for n in used_columns(contract.windows)]
    used = [(n, pa.int64() if pa.types.is_timestamp(kind) else kind) for n, kind in used]
    return pa.schema([("_id", pa.string()), *times, *used])


def event_facts(events: pa.Table, contract: Contract) -> pa.Table:
    """Turn rows of the events table into facts; see fact_schema."""
    time = _micros(events["prediction_time"])
    arrival = _micros(events["ingested_at"])
    late = _is_late(events["source"], arrival, contract.arrivals)
    known_from = np.where(late, np.maximum(time, arrival + contract.arrivals.settle), time)
    columns = {"_id": events[contract.id], "_time": time, "_arrival": arrival}
    columns |= {"_known_from": known_from}
    for name in used_columns(contract.windows):
        is_time = contract.by_name[name].kind == "time"
        columns[name] = micros_in(events[name]) if is_time else events[name]
    return pa.table(columns).cast(fact_schema(contract))


def label_facts(labels: pa.Table, arrivals: Arrivals) -> pa.Table:
    """Turn rows of the labels table into revisions; a void one has the label -1, for nobody."""
    schema = revision_schema(labels.schema.field("label").type)
    known_at, received_at = _micros(labels["known_at"]), _micros(labels["received_at"])
    late = _is_late(labels["source"], received_at, arrivals)
    known_from = np.where(late, np.maximum(known_at, received_at + arrivals.settle), known_at)
    columns = {
        "row_id": labels["row_id"],
        "known_at": known_at,
        "received_at": received_at,
        "void": labels["void"].cast(pa.int64()),
        "label": labels["label"].cast(schema.field("label").type).fill_null(-1),
        "known_from": known_from,
    }
    return pa.table(columns).cast(schema)


def asked_at(rows: pa.Table) -> Ints:
    """Say as of when each row of the events table is asked, in microseconds since 1970.

    That is its prediction time; of a row that the endpoint answered before, when it answered.
    """
    time, arrival = _micros(rows["prediction_time"]), _micros(rows["ingested_at"])
    live = pc.equal(rows["source"], LIVE_SOURCE).to_numpy()
    return np.where(live, np.minimum(time, arrival), time)


def distinct_events(facts: pa.Table) -> pa.Table:
    """Keep one fact of each id and time: the first that arrived, ties settled by their content."""
    ids = codes_of(facts["_id"])
    times = facts["_time"].to_numpy()
    order = np.lexsort((times, ids))
    same = (np.diff(ids[order]) == 0) & (np.diff(times[order]) == 0)
    if not same.any():
        return facts
    repeated = np.zeros(len(ids), bool)
    repeated[order[1:][same]] = repeated[order[:-1][same]] = True
    suspects = facts.filter(pa.array(repeated))
    ranked = suspects.sort_by([(name, "ascending") for name in suspects.column_names])
    again = (np.diff(codes_of(ranked["_id"])) == 0) & (np.diff(ranked["_time"].to_numpy()) == 0)
    first = ranked.filter(pa.array(np.append(True, ~again)))
    return pa.concat_tables([facts.filter(pa.array(~repeated)), first])


def _is_late(sources: pa.ChunkedArray, arrival: Ints, arrivals: Arrivals) -> NDArray[np.bool_]:
    """Tell what is known no earlier than it arrived."""
    live: NDArray[np.bool_] = pc.equal(sources, LIVE_SOURCE).to_numpy()
    if arrivals.backfilled_until is None:
        return live
    after: NDArray[np.bool_] = live | (arrival > micros_of(arrivals.backfilled_until))
    return after


def _micros(times: pa.ChunkedArray) -> Ints:
    micros: Ints = micros_in(times).to_numpy()
    return micros


def codes_of(values: pa.Array | pa.ChunkedArray) -> Ints:
    """Number the distinct values; a null is -1."""
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    codes = pc.dictionary_encode(whole).indices.fill_null(-1)
    numbers: Ints = codes.to_numpy().astype(np.int64)
    return numbers


def places_in(values: pa.ChunkedArray, names: pa.Array) -> Ints:
    """Find values among names; an unknown one or a null is -1."""
    found = pc.index_in(values, value_set=names, skip_nulls=True)
    numbers: Ints = found.fill_null(-1).to_numpy().astype(np.int64)
    return numbers

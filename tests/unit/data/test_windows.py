"""Window features of history equal a slow count, for any stream and any order."""

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.times import moment
from app.contracts.windows import LIVE_SOURCE
from tests.windows_world import HOUR, make_contract, make_events, make_labels, offline, oracle

T0 = 400 * 24 * HOUR
SOURCES = [LIVE_SOURCE, "ingest:a"]
# A coarse grid, so that times, arrivals and the edges of windows often coincide.
hours = st.integers(0, 40).map(lambda n: T0 + n * HOUR // 2)
prices = st.one_of(
    st.none(),
    st.sampled_from([0.1, 0.2, 0.3, 1e17, -1e17, 3.0, 1e-30, 2.5e-3]),
    st.floats(-1e6, 1e6),
)
ids = st.integers(0, 7).map(lambda n: f"t{n}")
events = st.fixed_dictionaries(
    {
        "id": ids,
        "time": hours,
        "arrival": hours,
        "source": st.sampled_from(SOURCES),
        "rider": st.sampled_from(["a", "b", None]),
        "depot": st.sampled_from(["north", "south", None]),
        "place": st.sampled_from(["p", "q", "r", None]),
        "price": prices,
    }
)
labels = st.fixed_dictionaries(
    {
        "id": ids,
        "known_at": hours,
        "arrival": hours,
        "source": st.sampled_from(SOURCES),
        "label": st.sampled_from([0, 1, None]),
    }
)
rows = st.fixed_dictionaries(
    {"rider": st.sampled_from(["a", "b", "c", None]), "depot": st.sampled_from(["north", None])}
)
arrivals = st.fixed_dictionaries(
    {
        "settle_seconds": st.sampled_from([0.0, 1800.0]),
        "backfilled_until": st.sampled_from([None, moment(T0 + 8 * HOUR)]),
    }
)


def bits(values: list[float | None]) -> list[int | None]:
    return [None if v is None else int(np.float64(v).view(np.int64)) for v in values]


def is_as_the_oracle(
    rules: dict[str, Any], stream: list[Any], outcomes: list[Any], asked: list[Any]
) -> None:
    contract = make_contract(**rules)
    queries = pa.table(
        {
            name: pa.array([row[name] for row, _ in asked], pa.string())
            for name in ("rider", "depot")
        }
    )
    as_of = np.array([t for _, t in asked], np.int64)
    table = offline(contract, make_events(stream, contract), make_labels(outcomes), queries, as_of)
    found = [bits(list(row.values())) for row in table.to_pylist()]
    assert found == [bits(oracle(contract, stream, outcomes, row, t)) for row, t in asked]


@settings(deadline=None, max_examples=150)
@given(
    arrivals,
    st.lists(events, max_size=30),
    st.lists(labels, max_size=30),
    st.lists(st.tuples(rows, hours), min_size=1, max_size=12),
)
def test_any_history_gives_what_a_slow_count_gives(
    rules: dict[str, Any], stream: list[Any], outcomes: list[Any], asked: list[Any]
) -> None:
    is_as_the_oracle(rules, stream, outcomes, asked)

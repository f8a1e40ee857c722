"""Add the declared windows to rows, from what the tables hold: for training, gates and scoring.

Knows the tables and which part of them windows can see; what a value is, is said in windows.py. The
values are derived anew each time, from pinned versions, and are no part of a snapshot's digest.
"""

from collections.abc import Callable
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import TIMESTAMP, Contract
from app.contracts.times import moment
from app.data.facts import REVISIONS, Ints, event_facts, label_facts, used_columns
from app.data.tables import Tables
from app.data.windows import longest, window_values

# `windows.window_values`, or one that computes the same elsewhere.
Compute = Callable[[Contract, pa.Table, pa.Table, pa.Table, Ints], pa.Table]


def with_windows(
    tables: Tables,
    contract: Contract,
    rows: pa.Table,
    as_of: Ints,
    versions: tuple[int | None, int | None] = (None, None),
    compute: Compute = window_values,
    *,
    received_by: datetime | None = None,
) -> pa.Table:
    """Append a column a window to rows that are asked as of some moments (microseconds).

    `versions` are those of the events and labels tables, by default the latest. With `received_by`
    outcomes that arrived later do not count. Rows of a contract without windows are returned as
    they are.
    """
    if not contract.windows:
        return rows
    facts = event_facts(_events(tables, contract, as_of, versions[0]), contract)
    revisions = REVISIONS.empty_table()
    if any(window.of_label for window in contract.windows) and versions[1] != -1:
        arrived = None
        if received_by is not None:
            arrived = pc.field("received_at") <= pa.scalar(received_by, TIMESTAMP)
        labels = tables.read("labels", versions[1], filters=arrived)
        revisions = label_facts(labels, contract.arrivals)
    values = compute(contract, facts, revisions, rows, as_of)
    for name in values.column_names:
        rows = rows.append_column(name, values[name])
    return rows


def _events(tables: Tables, contract: Contract, as_of: Ints, version: int | None) -> pa.Table:
    """Read the events that any of the rows can see."""
    names = {contract.id, *used_columns(contract.windows)}
    columns = [*sorted(names), "prediction_time", "ingested_at", "source"]
    if not len(as_of) or version == -1:
        return tables.schema("events").empty_table().select(columns)
    first, last = int(as_of.min()) - longest(contract.windows), int(as_of.max())
    after, before = (pa.scalar(moment(edge), TIMESTAMP) for edge in (first, last))
    time = pc.field("prediction_time")
    return tables.read("events", version, columns, (time >= after) & (time < before))

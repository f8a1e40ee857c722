"""Take outcomes up again that were quarantined because their row was unknown, and is known now.

With files that keep coming, an outcome may be there before its row. The quarantine keeps what it
has; the outcome is added to the labels once, in the commit that notes how far rows were looked
through: known when it says, received now, since nobody could use it before. Knows tables, ids and
tombstones; knows nothing of Ray or of sources.
"""

from collections.abc import Iterator
from datetime import datetime

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from app.data.labels import KNOWN_LABELS
from app.data.schemas import ARRIVAL
from app.data.seen import hash_ids
from app.data.settling import Ids
from app.data.tables import Tables
from app.data.validation import UNKNOWN_ROW, validate_labels
from app.security.tombstones import Tombstones

LOOKED_THROUGH = "readmitted"
REASON = f"row_id {UNKNOWN_ROW}"
WAITED = pa.schema([*KNOWN_LABELS, ("source", pa.string())])


def may_readmit(tables: Tables) -> bool:
    """Tell whether rows came since quarantined outcomes were last looked through. Cheap."""
    if min(tables.version("events"), tables.version("quarantine")) < 0:
        return False
    looked = tables.transaction("labels", LOOKED_THROUGH)
    return looked is None or tables.grew_since("events", looked)


def readmit(tables: Tables, ids: Ids, reached: int, erased: Tombstones, at: datetime) -> int:
    """Add outcomes whose row is among `ids` by now, and return how many.

    `ids` are those of all rows up to the version `reached` of the events, or of more. An outcome of
    that row and time that is in already stays; of several that waited the last to arrive is taken.
    Nothing is added about erased rows. Cut off at any point, it may be called again.
    """
    waited = [part for part in _waiting(tables, ids, erased) if part.num_rows]
    outcomes = _without_known(tables, _latest(pa.concat_tables(waited))) if waited else None
    if outcomes is None and tables.version("labels") < 0:
        return 0
    found = WAITED.empty_table() if outcomes is None else outcomes
    rows = found.select(KNOWN_LABELS.names)
    completed = tables.complete("labels", rows, at, found["source"])
    added = tables.append("labels", completed, (LOOKED_THROUGH, reached))
    return 0 if added is None else found.num_rows


def _waiting(tables: Tables, ids: Ids, erased: Tombstones) -> Iterator[pa.Table]:
    """Read quarantined outcomes that lacked nothing but their row, where that is known now."""
    names = ["row", "reasons", "source", ARRIVAL["quarantine"]]
    for part in tables.scan("quarantine", names):
        part = part.filter(pc.equal(pc.list_value_length(part["reasons"]), 1))
        part = part.filter(pc.starts_with(pc.list_flatten(part["reasons"]), REASON))
        rows = [orjson.loads(row) for row in part["row"].to_pylist()]
        texts = {name: _texts([row.get(name) for row in rows]) for name in KNOWN_LABELS.names}
        part = pa.table({**texts, **{name: part[name] for name in names[2:]}})
        row_ids = part["row_id"].fill_null("").combine_chunks()
        known = ids.contains(hash_ids(row_ids)) & ~erased.rows_in(row_ids)
        yield part.filter(pa.array(known))


def _texts(values: list[object]) -> pa.Array:
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _latest(waited: pa.Table) -> pa.Table:
    """Read outcomes; of those of a row and a time keep the last, void before 1 before 0."""
    by_arrival = [(ARRIVAL["quarantine"], "descending")]
    waited = waited.sort_by([*by_arrival, ("void", "descending"), ("label", "descending")])
    judged = validate_labels(waited.select(KNOWN_LABELS.names))
    sources = waited["source"].take(pa.array(judged.positions))
    return judged.accepted.append_column("source", sources)


def _without_known(tables: Tables, outcomes: pa.Table) -> pa.Table:
    """Leave out outcomes of a row and a time that are in."""
    row_ids = outcomes["row_id"].combine_chunks()
    there: set[tuple[str, int]] = set()
    for part in tables.scan("labels", ["row_id", "known_at"]):
        part = part.filter(pc.is_in(part["row_id"], value_set=row_ids))
        there.update(_keys(part))
    return outcomes.filter(pa.array(np.array([key not in there for key in _keys(outcomes)], bool)))


def _keys(rows: pa.Table) -> Iterator[tuple[str, int]]:
    moments = rows["known_at"].cast(pa.int64()).to_pylist()
    return zip(rows["row_id"].to_pylist(), moments, strict=True)

"""Find out which rows are those of a subject, before any of them goes.

Knows tables and tombstones; knows nothing of stores' other content or of order. An outcome names
only a row, so the ids of a subject's rows must be known; an id that a row of somebody else has too
is not the subject's.
"""

import pyarrow as pa
import pyarrow.compute as pc

from app.data.forgetting import ANSWERS, ROW_ID, QuarantineReader, events_erased
from app.data.tables import Tables
from app.governance.stores import look_through
from app.security.tombstones import Tombstones


def trace_rows(tables: Tables, erased: Tombstones) -> frozenset[str]:
    """Give the ids of all rows that are about erased subjects and about nobody else.

    Looks into events, predictions and refused rows of every version.
    """
    theirs = _event_ids(tables, erased) | _prediction_ids(tables, erased)
    theirs |= _refused_ids(tables, erased)
    return frozenset(theirs - _ids_of_others(tables, erased, theirs)) if theirs else frozenset()


def _event_ids(tables: Tables, erased: Tombstones) -> set[str]:
    contract, ids = tables.contract, set[str]()

    def look(part: pa.Table) -> None:
        found = pa.array(events_erased(part, contract, erased))
        ids.update(part[contract.id].filter(found).to_pylist())

    look_through(tables, "events", look)
    return ids


def _prediction_ids(tables: Tables, erased: Tombstones) -> set[str]:
    ids = set[str]()

    def look(part: pa.Table) -> None:
        found = pa.array(erased.subjects_in(part["entity"]))
        ids.update(part[ROW_ID].filter(found).to_pylist())

    for name in ANSWERS:
        look_through(tables, name, look)
    return ids


def _refused_ids(tables: Tables, erased: Tombstones) -> set[str]:
    reader, ids = QuarantineReader(tables.contract, erased), set[str]()

    def look(part: pa.Table) -> None:
        rows = part["row"].filter(pa.array(reader.erased(part))).to_pylist()
        ids.update(row_id for row_id in map(reader.row_id, rows) if row_id is not None)

    look_through(tables, "quarantine", look)
    return ids


def _ids_of_others(tables: Tables, erased: Tombstones, ids: set[str]) -> set[str]:
    """Give those of some ids that rows about nobody, or about others, have."""
    contract, others = tables.contract, set[str]()
    wanted = pa.array(sorted(ids), pa.string())

    def look_at_events(part: pa.Table) -> None:
        same = part.filter(pc.is_in(part[contract.id], value_set=wanted))
        found = ~events_erased(same, contract, erased)
        others.update(same[contract.id].filter(pa.array(found)).to_pylist())

    def look_at_predictions(part: pa.Table) -> None:
        same = part.filter(pc.is_in(part[ROW_ID], value_set=wanted))
        # A prediction about nobody goes with its row.
        found = ~erased.subjects_in(same["entity"]) & same["entity"].is_valid().to_numpy()
        others.update(same[ROW_ID].filter(pa.array(found)).to_pylist())

    look_through(tables, "events", look_at_events)
    if contract.entity is not None:
        look_through(tables, "predictions", look_at_predictions)
    return others

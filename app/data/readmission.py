"""Take outcomes up again that were quarantined because their row was unknown, and is known now.

With files that keep coming, an outcome may be there before its row. The quarantine keeps what it
has; the outcome is added to the labels once, in the commit that notes how far rows were looked
through: known when it says, received now, since nobody could use it before. What is known in the
end is what would be known had the rows come first. Knows tables, ids and tombstones; knows nothing
of Ray or of sources.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Contract
from app.data.admitting import application_of
from app.data.labels import KNOWN_LABELS
from app.data.schemas import ARRIVAL
from app.data.seen import Hashes, SeenIds, hash_ids, repeats
from app.data.tables import Tables
from app.data.validation import UNKNOWN_ROW, validate_labels
from app.security.tombstones import Tombstones

LOOKED_THROUGH = "readmitted"
REASON = f"row_id {UNKNOWN_ROW}"
QUARANTINED_AT = ARRIVAL["quarantine"]
COLUMNS = ("row", "reasons", "position", "source", QUARANTINED_AT)
# So many rows' outcomes are held at a time.
PASS_ROWS = 2**19
# Of outcomes of one row and time the highest holds: by arrival, then void over the larger label.
Rank = tuple[int, bool, float]


@dataclass
class Waiting:
    """Which rows quarantined outcomes wait for, 16 bytes each, as of a version of the quarantine.

    A single ingest takes a new one; a follower keeps one for good and reads what is new.
    """

    ids: SeenIds = field(default_factory=SeenIds)
    version: int = -1

    def update(self, tables: Tables) -> None:
        """Read what came into the quarantine since."""
        reached = tables.version("quarantine")
        after = self.version if self.version >= 0 else None
        for part in tables.scan("quarantine", COLUMNS, after):
            hashes = hash_ids(_refused_for_their_row(part)["row_id"])
            fresh = ~(repeats(hashes) | self.ids.contains(hashes))
            self.ids.add(hashes.at(fresh))
        self.version = reached


def may_readmit(tables: Tables) -> bool:
    """Tell whether rows came since quarantined outcomes were last looked through. Cheap.

    Where no delivery of outcomes was ever closed, none waits: it is judged again. Nor does one
    where none of those was refused in part, whatever rows the quarantine has.
    """
    if min(tables.version(name) for name in ("events", "quarantine", "labels")) < 0:
        return False
    numbers = tables.transactions("labels")
    looked = numbers.get(LOOKED_THROUGH)
    if looked is not None and not tables.grew_since("events", looked):
        return False
    closed = (name for name in numbers if name.startswith(application_of("")))
    return bool(tables.transactions("quarantine", closed))


def readmit(tables: Tables, waiting: Waiting, erased: Tombstones, at: datetime) -> int:
    """Add outcomes whose row has come, and return how many.

    Of a delivery's outcomes of one row and time the first is taken, of several deliveries' the last
    to arrive; one that is in already stays unless it came before that. Nothing is added about
    erased rows. Nobody else quarantines outcomes meanwhile. Cut off anywhere, it may be called
    again.
    """
    reached = tables.version("events")
    waiting.update(tables)
    if not len(waiting.ids):
        return 0
    # An outcome is judged by all rows that are in when its ingest begins, so that those which were
    # looked through by then are not what it waits for.
    looked = tables.transaction("labels", LOOKED_THROUGH)
    come = _come(tables, waiting.ids, looked)
    count = 0

    def outcomes() -> Iterator[pa.Table]:
        nonlocal count
        count = 0
        for found in _outcomes(tables, come, erased):
            count += found.num_rows
            rows = found.select(KNOWN_LABELS.names)
            yield tables.complete("labels", rows, at, found["source"])

    added = tables.append("labels", outcomes, (LOOKED_THROUGH, reached))
    return 0 if added is None else count


def _come(tables: Tables, waiting: SeenIds, looked: int | None) -> Hashes:
    """Give those of the rows waited for that came after a version of the events."""
    name = tables.contract.id
    found = [hash_ids(pa.array([], pa.string()))]
    for part in tables.scan("events", [name], looked):
        hashes = hash_ids(part[name])
        found.append(hashes.at(waiting.contains(hashes)))
    come = Hashes(*map(np.concatenate, zip(*found, strict=True)))
    # The endpoint may have kept a row twice.
    return come.at(~repeats(come))


def _outcomes(tables: Tables, come: Hashes, erased: Tombstones) -> Iterator[pa.Table]:
    """Read the outcomes of rows that came, a share of the rows at a time; those that are new."""
    for first in range(0, len(come), PASS_ROWS):
        rows = SeenIds()
        rows.add(Hashes(*(half[first : first + PASS_ROWS] for half in come)))
        parts = [part for part in _waited(tables, rows, erased) if part.num_rows]
        if parts:
            yield _without_known(tables, _latest(pa.concat_tables(parts), tables.contract))


def _waited(tables: Tables, come: SeenIds, erased: Tombstones) -> Iterator[pa.Table]:
    """Read quarantined outcomes of some rows, as their sources gave them."""
    for part in tables.scan("quarantine", COLUMNS):
        refused = _refused_for_their_row(part)
        row_ids = refused["row_id"]
        known = come.contains(hash_ids(row_ids)) & ~erased.rows_in(row_ids)
        yield refused.filter(pa.array(known))


def _refused_for_their_row(part: pa.Table) -> pa.Table:
    """Give the outcomes of a part of the quarantine that lacked nothing but their row, as texts."""
    part = part.filter(pc.equal(pc.list_value_length(part["reasons"]), 1))
    part = part.filter(pc.starts_with(pc.list_flatten(part["reasons"]), REASON))
    rows = [orjson.loads(row) for row in part["row"].to_pylist()]
    texts = {name: _texts([row.get(name) for row in rows]) for name in KNOWN_LABELS.names}
    return pa.table({**texts, **{name: part[name] for name in COLUMNS[2:]}})


def _texts(values: list[object]) -> pa.Array:
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: object) -> str:
    """Write a value; a whole number without a point, since it may be the name of a class."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)  # type: ignore[call-overload]


def _latest(waited: pa.Table, contract: Contract) -> pa.Table:
    """Read outcomes; of those of a row and a time keep the one that counts: the last to arrive.

    Of those that one delivery gave the first is kept, as it is where rows are there; of those that
    arrived together void wins over a label, and 1 over 0, as in known_labels.
    """
    waited = waited.sort_by("position")
    # With its delivery's name before it, an id is the same only within that delivery.
    keyed = pc.binary_join_element_wise(waited["source"], waited["row_id"], "\0")
    names = KNOWN_LABELS.names[1:]
    given = pa.table({"row_id": keyed, **{name: waited[name] for name in names}})
    judged = validate_labels(given, contract=contract)
    outcomes = judged.accepted.select(names)
    for name in ("row_id", "source", QUARANTINED_AT):
        outcomes = outcomes.append_column(name, waited[name].take(pa.array(judged.positions)))
    descending = [(name, "descending") for name in (QUARANTINED_AT, "void", "label")]
    outcomes = outcomes.sort_by(descending)
    hashes = hash_ids(outcomes["row_id"], outcomes["known_at"].cast(pa.int64()))
    return outcomes.filter(pa.array(~repeats(hashes)))


def _without_known(tables: Tables, outcomes: pa.Table) -> pa.Table:
    """Leave out outcomes that one of their row and time, which is in, stands against or equals."""
    row_ids = outcomes["row_id"].combine_chunks()
    there: dict[tuple[str, int], Rank] = {}
    for part in tables.scan("labels", [*KNOWN_LABELS.names, ARRIVAL["labels"]]):
        part = part.filter(pc.is_in(part["row_id"], value_set=row_ids))
        for key, rank in _ranked(part, ARRIVAL["labels"]):
            there[key] = max(rank, there.get(key, rank))
    ranked = _ranked(outcomes, QUARANTINED_AT)
    new = [key not in there or there[key] < rank for key, rank in ranked]
    return outcomes.filter(pa.array(new, pa.bool_()))


def _ranked(rows: pa.Table, arrival: str) -> Iterator[tuple[tuple[str, int], Rank]]:
    """Give what each outcome is about, its row and time, and its rank among others of that."""
    known, came = (rows[name].cast(pa.int64()).to_pylist() for name in ("known_at", arrival))
    voids, labels = rows["void"].to_pylist(), rows["label"].fill_null(-1).to_pylist()
    keys = zip(rows["row_id"].to_pylist(), known, strict=True)
    return zip(keys, zip(came, voids, labels, strict=True), strict=True)

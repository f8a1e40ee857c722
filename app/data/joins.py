"""Join facts to rows as they were known when each row was asked about: by event and knowledge time.

Knows entities and times; knows nothing of what a fact means, of files or of Ray. A fact says
something about an entity that holds from its event time; a later fact of the same entity and event
time is a revision of it. Nothing is told to a row that happened, became known or, where that is
asked, arrived after the row's own time.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.times import micros_in

Numbers = npt.NDArray[np.int64]
ABSENT = -1


@dataclass(frozen=True)
class FactColumns:
    """Which columns of facts hold what; every other column is a value.

    With `received_at` a fact is also withheld until it has arrived.
    """

    entity: str = "entity"
    event_time: str = "event_time"
    known_at: str = "known_at"
    received_at: str | None = None

    @property
    def times(self) -> tuple[str, ...]:
        """The columns of times, the most telling first."""
        arrival = () if self.received_at is None else (self.received_at,)
        return (self.event_time, self.known_at, *arrival)


PLAIN = FactColumns()


def point_in_time_join(
    rows: pa.Table,
    facts: pa.Table,
    *,
    entity: str,
    as_of: str,
    columns: FactColumns = PLAIN,
    max_age: timedelta | None = None,
) -> pa.Table:
    """Add to every row the values of the latest fact about its entity that was known then.

    Args:
        rows: kept whole and in order.
        facts: revisions may be among them, in any order; see latest_facts.
        entity: the rows' column that names an entity, of the same type as the facts' one.
        as_of: the rows' column of times at which each row was asked about.
        columns: the roles of the facts' columns.
        max_age: a fact whose event lies further back is not told.

    Returns:
        The rows with the facts' value columns and their event time, all null where there is no
        such fact. Raises ValueError when a column is missing, would be there twice, or has nulls
        where a time or a fact's entity is needed.
    """
    values = [name for name in facts.column_names if name not in (columns.entity, *columns.times)]
    doubled = sorted(set(rows.column_names) & {columns.event_time, *values})
    if doubled:
        raise ValueError(
            f"join: columns {', '.join(doubled)} are in rows and in facts; rename those of facts"
        )
    places = latest_facts(rows, facts, entity=entity, as_of=as_of, columns=columns, max_age=max_age)
    chosen = pa.array(places, mask=places == ABSENT)
    for name in (columns.event_time, *values):
        rows = rows.append_column(
            facts.schema.field(name).with_nullable(True), facts[name].take(chosen)
        )
    return rows


def latest_facts(
    rows: pa.Table,
    facts: pa.Table,
    *,
    entity: str,
    as_of: str,
    columns: FactColumns = PLAIN,
    max_age: timedelta | None = None,
) -> Numbers:
    """Return for every row the place of the fact that it may be told, ABSENT for none; [rows].

    Of the facts about the row's entity with event time, knowledge time and arrival (if asked) at or
    before the row's time, it is the one that happened last; of its revisions the one known last,
    then received last. Facts that agree in all times and contradict each other are settled by
    their values, the greatest in the order of the columns, so that the answer depends on no order.
    A null entity has no facts; an event that is withdrawn is revised to nulls.

    One sort of the facts and one search a row: the latest of all three times is when a fact can be
    seen, so the best fact seen so far, in that order, is the answer.

    >>> happened, known = pa.array([1, 3, 1]), pa.array([1, 6, 4])
    >>> facts = pa.table({"entity": ["a"] * 3, "event_time": happened, "known_at": known})
    >>> rows = pa.table({"who": ["a"] * 4, "asked_at": [0, 3, 5, 6]})
    >>> latest_facts(rows, facts, entity="who", as_of="asked_at").tolist()
    [-1, 0, 2, 1]
    """
    _refuse_gaps(rows, (as_of,), "rows", also=(entity,))
    _refuse_gaps(facts, (columns.entity, *columns.times), "facts")
    if not rows.num_rows or not facts.num_rows:
        return np.full(rows.num_rows, ABSENT)
    named, asked = _codes(facts[columns.entity], rows[entity])
    times = [micros_in(facts[name]).to_numpy() for name in columns.times]
    moments = micros_in(rows[as_of]).to_numpy()
    seen_from = np.maximum.reduce(times)
    ranked = _ranked(named, times, facts, columns)
    rank = np.empty(len(ranked), np.int64)
    rank[ranked] = np.arange(len(ranked))
    sighted = np.lexsort((seen_from, named))
    # Ranks rise with the entity: the best of one entity never shows in the next one.
    best = np.maximum.accumulate(rank[sighted])
    place = _last_before(named[sighted], seen_from[sighted], asked, moments)
    # Before the first of an entity's facts stands another entity's last one.
    found = (place >= 0) & (named[sighted][place] == asked)
    chosen = np.where(found, ranked[best[place]], ABSENT)
    if max_age is not None:
        oldest = moments - max_age // timedelta(microseconds=1)
        chosen = np.where((chosen != ABSENT) & (times[0][chosen] >= oldest), chosen, ABSENT)
    return chosen.astype(np.int64)


def _refuse_gaps(
    table: pa.Table, names: tuple[str, ...], what: str, also: tuple[str, ...] = ()
) -> None:
    missing = [name for name in (*names, *also) if name not in table.column_names]
    if missing:
        raise ValueError(
            f"join: {what} have no column {', '.join(missing)}; "
            f"they have {', '.join(table.column_names)}"
        )
    for name in names:
        if table[name].null_count:
            raise ValueError(
                f"join: {table[name].null_count:,} {what} have no {name}; leave them out"
            )


def _codes(of_facts: pa.ChunkedArray, of_rows: pa.ChunkedArray) -> tuple[Numbers, Numbers]:
    """Number the entities of facts; rows about any other entity, or none, get ABSENT."""
    encoded = pc.dictionary_encode(_whole(of_facts))
    names = encoded.dictionary
    rows = _whole(of_rows)
    if rows.type != names.type:
        raise ValueError(
            f"join: entities are {rows.type} in rows and {names.type} in facts; cast one of them"
        )
    asked = pc.index_in(rows, value_set=names, skip_nulls=True).fill_null(ABSENT)
    return encoded.indices.to_numpy().astype(np.int64), asked.to_numpy().astype(np.int64)


def _ranked(named: Numbers, times: list[Numbers], facts: pa.Table, columns: FactColumns) -> Numbers:
    """Order facts by entity, then from the least to the most telling."""
    keys = (*reversed(times), named)
    ranked = np.lexsort(keys)
    same = np.all([key[ranked][1:] == key[ranked][:-1] for key in keys], axis=0)
    if not same.any():
        return ranked
    values = [name for name in facts.column_names if name not in (columns.entity, *columns.times)]
    settling = [part for name in reversed(values) for part in _ordered(name, facts[name])]
    order: Numbers = np.lexsort((*settling, *keys))
    return order


def _ordered(name: str, column: pa.ChunkedArray) -> tuple[npt.NDArray[np.generic], ...]:
    """Give keys that order values totally, the least telling key first; null is the least value."""
    values, kind = _whole(column), column.type
    there = values.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_floating(kind):
        bits = values.cast(pa.float64()).fill_null(0.0).to_numpy().view(np.int64)
        # Of negative numbers the bits rise as the numbers fall; -0.0 and NaN find a place as well.
        return np.where(bits < 0, bits ^ np.int64(2**63 - 1), bits), there
    try:
        encoded = pc.dictionary_encode(values)
        order = pc.sort_indices(encoded.dictionary).to_numpy()
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise ValueError(
            f"join: facts that agree in all times contradict each other, and {name} of type {kind} "
            "has no order to settle them; keep one of them"
        ) from error
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return np.append(places, 0)[encoded.indices.fill_null(-1).to_numpy()], there


def _last_before(named: Numbers, seen_from: Numbers, asked: Numbers, moments: Numbers) -> Numbers:
    """Find the last place, in order of (entity, time), at or before each pair; -1 for none."""
    instants = np.unique(seen_from)
    at = np.searchsorted(instants, moments, side="right") - 1
    keys = named * len(instants) + np.searchsorted(instants, seen_from)
    place: Numbers = np.searchsorted(keys, asked * len(instants) + at, side="right") - 1
    return place


def _whole(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)

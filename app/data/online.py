"""Keep window features up to date for serving, in one SQLite file: the same values as history's.

Why SQLite in WAL: many processes read while one writes, memory stays small for any number of
entities, a crash leaves the last whole transaction, and a look-up is a few indexed reads of exact
sums. What a window counts is said in windows.py alone: an update takes back what the facts that it
touches counted for, and adds what they count for now. So updates may come in any order, late,
twice, or contradict each other, and the sums are those of counting everything again. Knows facts
and revisions; knows nothing of tables, HTTP or clocks. Times are microseconds since 1970.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Contract
from app.contracts.windows import Window
from app.data import presence, running
from app.data.entries import Entries, Known, presences, slots_of
from app.data.facts import REVISIONS, Ints, distinct_events, fact_schema
from app.data.presence import Presence
from app.data.storefile import StoreFile, read_number, write_number
from app.data.windows import MICROS_PER_HOUR, longest, value_of

FORMAT = 1
HORIZON = "horizon"
NEVER = -(2**62)
NOTHING = (0,) * running.NUM_WEIGHTS
ASKED = "(SELECT id FROM asked)"


class Applied(NamedTuple):
    """What an update brought: new facts and revisions, and how many came after they counted."""

    num_events: int
    num_revisions: int
    num_late: int


class OnlineStore:
    """The window features of one contract. Safe to use from several threads and processes."""

    def __init__(self, folder: Path, contract: Contract, reach: int) -> None:
        """Open or create the file of these windows; values can be asked `reach` µs back."""
        self.contract, self.reach = contract, reach
        self._schema = fact_schema(contract)
        self._slots = slots_of(contract)
        self._longest = longest(contract.windows)
        numbered = list(enumerate(contract.windows))
        self._features = [[(n, w) for n, w in numbered if w.key == key] for key in self._slots]
        path = folder / f"{definition_of(contract)}.sqlite"
        self.file = StoreFile(path, _tables(self._schema, self._slots))

    def close(self) -> None:
        """Close the file; what was committed is there for the next one."""
        self.file.close()

    def update(
        self,
        facts: pa.Table,
        revisions: pa.Table,
        now: int,
        offsets: Mapping[str, int] | None = None,
    ) -> Applied:
        """Add facts and revisions, and note offsets, all in one transaction; repeats add nothing.

        What no value that can still be asked would count is left out. `now` moves the horizon.
        """
        with self.file.transaction() as database:
            horizon = _horizon(database)
            oldest = horizon - self._longest - 1
            facts = facts.cast(self._schema)
            facts = facts.filter(pc.greater_equal(facts["_time"], oldest))
            revisions = revisions.cast(REVISIONS)
            remembered = pc.greater_equal(revisions["known_from"], oldest - self._longest)
            revisions = revisions.filter(remembered)
            ids = pa.concat_arrays([_whole(facts["_id"]), _whole(revisions["row_id"])]).unique()
            before = self._load(database, ids)
            events = distinct_events(pa.concat_tables([before.facts, facts]))
            after = Known(events, pa.concat_tables([before.revisions, revisions]))
            applied = self._replace(database, before, after, now)
            for name, offset in (offsets or {}).items():
                write_number(database, f"offset {name}", offset)
            if running.horizon_before(now - self.reach) > horizon:
                self._evict(database, running.horizon_before(now - self.reach))
        return applied

    def offset(self, name: str) -> int | None:
        """Give an offset that an update noted last; None when none has."""
        with self.file.reading() as database:
            return read_number(database, f"offset {name}")

    @property
    def filled(self) -> bool:
        """Whether an update has noted offsets: before, history is missing from the values."""
        with self.file.reading() as database:
            found = database.execute("SELECT 1 FROM numbers WHERE name GLOB 'offset *'")
            return found.fetchone() is not None

    @property
    def horizon(self) -> int:
        """The earliest moment that values can be asked for."""
        with self.file.reading() as database:
            return _horizon(database)

    def values(self, rows: pa.Table, as_of: Ints) -> pa.Table:
        """Look every window up for each row as of its own moment: nullable float64 columns.

        A row that is asked before the horizon gets no values.
        """
        windows = self.contract.windows
        cells: list[list[float | None]] = [[None] * rows.num_rows for _ in windows]
        with self.file.reading() as database:
            horizon = _horizon(database)
            for place, slot, entity, moment in self._questions(rows, as_of, horizon):
                for feature, value in self._look_up(database, slot, entity, moment):
                    cells[feature][place] = value
        arrays = [pa.array(column, pa.float64()) for column in cells]
        return pa.Table.from_arrays(arrays, names=[window.name for window in windows])

    def _questions(
        self, rows: pa.Table, as_of: Ints, horizon: int
    ) -> Iterator[tuple[int, int, str, int]]:
        """List what can be looked up: place of the row, slot, entity, moment."""
        moments = as_of.tolist()
        for slot, key in enumerate(self._slots):
            for place, entity in enumerate(rows[key].to_pylist()):
                if entity is not None and moments[place] >= horizon:
                    yield place, slot, entity, moments[place]

    def forget(self, column: str, value: str, row_ids: Sequence[str] = ()) -> int:
        """Erase all facts with a value in a column, and those of some rows; returns how many.

        Their share in the values of others goes with them. When this returns, none of the bytes is
        left in the file or beside it. Raises StoreBusy when that could not be done yet.
        """
        named = pa.array(row_ids, pa.string())
        with self.file.transaction() as database:
            ids = named
            if column in self._schema.names:
                found = self._select(database, f'"{column}" = ?', value)
                ids = pa.concat_arrays([named, _whole(found["_id"])]).unique()
            before = self._load(database, ids)
            self._replace(database, before, Known(*(part.slice(0, 0) for part in before)), NEVER)
            if column in self._slots:
                slot = self._slots.index(column)
                database.execute("DELETE FROM sums WHERE slot = ? AND entity = ?", (slot, value))
            for feature, window in enumerate(self.contract.windows):
                sides = [
                    s for s, n in (("entity", window.key), ("value", window.of)) if n == column
                ]
                for side in sides:
                    given = (feature, value)
                    database.execute(f"DELETE FROM spans WHERE feature = ? AND {side} = ?", given)
        self.file.scrub()
        return int(before.facts.num_rows)

    def _replace(
        self, database: sqlite3.Connection, before: Known, after: Known, now: int
    ) -> Applied:
        """Put facts and revisions in the place of others, and bring the sums along."""
        gone, new = _difference(before.facts, after.facts)
        dropped, told = _difference(before.revisions, after.revisions)
        keys = [row[:2] for row in gone]
        database.executemany('DELETE FROM events WHERE "_id" = ? AND "_time" = ?', keys)
        marks = ", ".join("?" * len(self._schema))
        database.executemany(f"INSERT INTO events VALUES ({marks})", new)
        same = " AND ".join(f"{name} = ?" for name in REVISIONS.names)
        database.executemany(f"DELETE FROM revisions WHERE {same}", dropped)
        database.executemany("INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?)", told)
        entries = Entries(self.contract)
        entries.count(before, -1)
        entries.count(after, 1)
        self._change_presence(database, entries, before, after)
        running.add(database, entries.groups, *entries.content)
        is_late = [arrival <= known < now for _, _, arrival, known, *_ in new]
        is_late += [received <= known < now for _, _, received, _, _, known in told]
        return Applied(len(new), len(told), sum(is_late))

    def _change_presence(
        self, database: sqlite3.Connection, entries: Entries, before: Known, after: Known
    ) -> None:
        if all(window.aggregate != "distinct" for window in self.contract.windows):
            return
        old, new = (presences(self.contract, known.facts) for known in (before, after))
        shrunk = {group for group, _ in old - new}
        grown: dict[Presence, list[presence.Span]] = {}
        for group, span in new - old:
            grown.setdefault(group, []).append(span)
        for group in shrunk:
            window = self.contract.windows[group.feature]
            where = f'"{window.key}" = ? AND "{window.of}" = ?'
            facts = self._select(database, where, group.entity, group.value)
            whole = [span for each, span in presences(self.contract, facts) if each == group]
            entries.change(group, presence.recount(database, group, whole))
        for group in grown.keys() - shrunk:
            entries.change(group, presence.unite(database, group, grown[group]))

    def _look_up(
        self, database: sqlite3.Connection, slot: int, entity: str, moment: int
    ) -> Iterator[tuple[int, float | None]]:
        """Give the features of one entity column as of a moment."""
        sums = {row[0]: row[1:] for row in running.total(database, slot, entity, moment)}
        for feature, window in self._features[slot]:
            if window.aggregate == "time_since_last":
                yield feature, self._look_back(database, window, entity, moment)
            else:
                count, *parts = sums.get(feature, NOTHING)
                yield feature, value_of(window, count, parts)

    def _look_back(
        self, database: sqlite3.Connection, window: Window, entity: str, moment: int
    ) -> float | None:
        """Give the hours since the last event that counts."""
        found = database.execute(
            f'SELECT "_time" FROM events WHERE "{window.key}" = ? AND "_time" >= ? '
            'AND "_time" < ? AND "_known_from" <= ? ORDER BY "_time" DESC LIMIT 1',
            (entity, moment - window.span, moment, moment),
        ).fetchone()
        return None if found is None else (moment - int(found[0])) / MICROS_PER_HOUR

    def _evict(self, database: sqlite3.Connection, horizon: int) -> None:
        """Drop what has left every window that can still be asked for."""
        running.fold(database, horizon)
        presence.drop_ended(database, horizon)
        oldest = horizon - self._longest - 1
        database.execute('DELETE FROM events WHERE "_time" < ?', (oldest,))
        database.execute(
            "DELETE FROM revisions WHERE known_from < ? "
            'AND row_id NOT IN (SELECT "_id" FROM events)',
            (oldest - self._longest,),
        )
        write_number(database, HORIZON, horizon)

    def _load(self, database: sqlite3.Connection, ids: pa.Array) -> Known:
        database.execute("CREATE TEMP TABLE IF NOT EXISTS asked (id TEXT PRIMARY KEY)")
        database.execute("DELETE FROM asked")
        database.executemany("INSERT INTO asked VALUES (?)", ((each,) for each in ids.to_pylist()))
        found = database.execute(f"SELECT * FROM revisions WHERE row_id IN {ASKED}")
        return Known(self._select(database, f'"_id" IN {ASKED}'), _table(found, REVISIONS))

    def _select(self, database: sqlite3.Connection, where: str, *given: str) -> pa.Table:
        names = ", ".join(f'"{name}"' for name in self._schema.names)
        found = database.execute(f"SELECT {names} FROM events WHERE {where}", given)
        return _table(found, self._schema)


def definition_of(contract: Contract) -> str:
    """Digest all that decides what a store holds: another definition has another file."""
    windows = [window.model_dump(mode="json") for window in contract.windows]
    rules = contract.arrivals.model_dump(mode="json")
    columns = [(field.name, str(field.type)) for field in fact_schema(contract)]
    content = json.dumps([FORMAT, windows, rules, columns], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _tables(schema: pa.Schema, slots: Sequence[str]) -> Iterator[str]:
    kinds = {pa.string(): "TEXT", pa.float64(): "REAL", pa.int64(): "INTEGER"}
    columns = ", ".join(f'"{field.name}" {kinds[field.type]}' for field in schema)
    yield (
        f'CREATE TABLE IF NOT EXISTS events ({columns}, PRIMARY KEY ("_id", "_time")) WITHOUT ROWID'
    )
    for key in slots:
        yield f'CREATE INDEX IF NOT EXISTS "by_{key}" ON events ("{key}", "_time")'
    columns = ", ".join(f"{name} NOT NULL" for name in REVISIONS.names)
    key = ", ".join(REVISIONS.names)
    yield f"CREATE TABLE IF NOT EXISTS revisions ({columns}, PRIMARY KEY ({key})) WITHOUT ROWID"
    yield running.SCHEMA
    yield presence.SCHEMA


def _horizon(database: sqlite3.Connection) -> int:
    found = read_number(database, HORIZON)
    return NEVER if found is None else found


def _table(found: sqlite3.Cursor, schema: pa.Schema) -> pa.Table:
    rows = found.fetchall()
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(cells, field.type) for cells, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _rows(table: pa.Table) -> set[tuple[object, ...]]:
    return set(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _difference(before: pa.Table, after: pa.Table) -> tuple[list[Any], list[Any]]:
    """List the rows that are only in the one, and only in the other."""
    old, new = _rows(before), _rows(after)
    return list(old - new), list(new - old)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks().cast(pa.string())

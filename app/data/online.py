"""Keep window features up to date for serving, in one SQLite file: the same values as history's.

Why SQLite in WAL: many processes read while one writes, memory stays small for any number of
entities, a crash leaves the last whole transaction, and a look-up is a few indexed reads of exact
sums. What a window counts is said in windows.py alone: an update takes back what the facts that it
touches counted for, and adds what they count for now. So updates may come in any order, late,
twice, or contradict each other, and the sums are those of counting everything again. Knows facts
and revisions; knows nothing of tables, HTTP or clocks. Times are microseconds since 1970.
"""

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Contract
from app.contracts.times import MICROS_PER_HOUR
from app.data import presence, running
from app.data.definitions import store_path
from app.data.entries import Entries, Known, presences, slots_of
from app.data.facts import REVISIONS, Ints, distinct_events, fact_schema, revision_schema
from app.data.presence import Presence
from app.data.storedfacts import difference, last_known, read_table, statements, texts, without
from app.data.storefile import StoreFile, read_number, write_number
from app.data.windows import longest, value_of
from app.security.keyring import Keyring

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

    def __init__(
        self, folder: Path, contract: Contract, reach: int, keyring: Keyring | None = None
    ) -> None:
        """Open or create the file of these windows; values can be asked `reach` µs back.

        With a ring of keys it is sealed.
        """
        self.contract, self.reach = contract, reach
        self._schema, self._told = fact_schema(contract), revision_schema(contract.label_type)
        # The place of a column that says whom a row is about is its slot.
        self.key_columns = slots_of(contract)
        self._longest = longest(contract.windows)
        numbered = list(enumerate(contract.windows))
        self._features = [[(n, w) for n, w in numbered if w.key == key] for key in self.key_columns]
        path = store_path(folder, contract, sealed=keyring is not None)
        self.file = StoreFile(path, statements(self._schema, self.key_columns), keyring=keyring)

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
            revisions = revisions.cast(self._told)
            remembered = pc.greater_equal(revisions["known_from"], oldest - self._longest)
            revisions = revisions.filter(remembered)
            ids = pa.concat_arrays([texts(facts["_id"]), texts(revisions["row_id"])]).unique()
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
        entities = {key: rows[key].to_pylist() for key in self.key_columns}
        found = self.row_values(entities, as_of.tolist())
        columns = zip(*found, strict=True) if found else [()] * len(windows)
        arrays = [pa.array(column, pa.float64()) for column in columns]
        return pa.Table.from_arrays(arrays, names=[window.name for window in windows])

    def row_values(
        self, entities: Mapping[str, Sequence[str | None]], moments: Sequence[int]
    ) -> list[list[float | None]]:
        """Look every window up for each row, as `values` does, and give a list a row.

        `entities` has, by column of `key_columns`, whom each row is about; a moment a row.
        """
        found: list[list[float | None]] = [[None] * len(self.contract.windows) for _ in moments]
        with self.file.reading() as database:
            horizon = _horizon(database)
            for place, slot, entity, moment in self._questions(entities, moments, horizon):
                for feature, value in self._look_up(database, slot, entity, moment):
                    found[place][feature] = value
        return found

    def _questions(
        self, entities: Mapping[str, Sequence[str | None]], moments: Sequence[int], horizon: int
    ) -> Iterator[tuple[int, int, str, int]]:
        """List what can be looked up: place of the row, slot, entity, moment."""
        for slot, key in enumerate(self.key_columns):
            for place, (entity, moment) in enumerate(zip(entities[key], moments, strict=True)):
                if entity is not None and moment >= horizon:
                    yield place, slot, entity, moment

    def names(self, column: str) -> set[str]:
        """Give every value of a column of texts that stands anywhere in the file."""
        queries = [("SELECT entity FROM sums WHERE slot = ?", n) for n in self._slots_of(column)]
        queries += [
            (f"SELECT {side} FROM spans WHERE feature = ?", feature)
            for feature, side in self._sides_of(column)
        ]
        with self.file.reading() as database:
            found = [row for query, n in queries for row in database.execute(query, (n,))]
            if column in self._schema.names:
                found += database.execute(f'SELECT "{column}" FROM events')
        return {name for (name,) in found if name is not None}

    def row_ids(self) -> set[str]:
        """Give the id of every row of which a fact or an outcome is in the file."""
        with self.file.reading() as database:
            ids = database.execute('SELECT "_id" FROM events UNION SELECT row_id FROM revisions')
            return {row_id for (row_id,) in ids}

    def forget(self, named: Mapping[str, Collection[str]], row_ids: Collection[str] = ()) -> int:
        """Erase all facts with a named value in its column, and some rows; returns how many.

        Their share in the values of others goes with them, and so do outcomes without a fact that
        is left. When this returns, none of the bytes is left in the file or beside it. Raises
        StoreBusy when that could not be done yet.
        """
        with self.file.transaction() as database:
            ids = set(row_ids)
            for column, value in _pairs(named):
                if column in self._schema.names:
                    found = self._select(database, f'"{column}" = ?', value)
                    ids.update(found["_id"].to_pylist())
            before = self._load(database, pa.array(sorted(ids), pa.string()))
            after = without(before, named, row_ids)
            self._replace(database, before, after, NEVER)
            for column, value in _pairs(named):
                for slot in self._slots_of(column):
                    running.drop(database, slot, value)
                for feature, side in self._sides_of(column):
                    presence.drop(database, feature, side, value)
        self.file.scrub()
        return int(before.facts.num_rows - after.facts.num_rows)

    def _slots_of(self, column: str) -> list[int]:
        return [slot for slot, key in enumerate(self.key_columns) if key == column]

    def _sides_of(self, column: str) -> list[tuple[int, str]]:
        """Say where the values of a column stand among the spans: the feature and the side."""
        sides = [
            (feature, side, name)
            for feature, window in enumerate(self.contract.windows)
            for side, name in (("entity", window.key), ("value", window.of))
        ]
        return [(feature, side) for feature, side, name in sides if name == column]

    def _replace(
        self, database: sqlite3.Connection, before: Known, after: Known, now: int
    ) -> Applied:
        """Put facts and revisions in the place of others, and bring the sums along."""
        gone, new = difference(before.facts, after.facts)
        dropped, told = difference(before.revisions, after.revisions)
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
                last = last_known(database, window.key, entity, (moment - window.span, moment))
                hours = None if last is None else (moment - last) / MICROS_PER_HOUR
                yield feature, hours
            else:
                count, *parts = sums.get(feature, NOTHING)
                yield feature, value_of(window, count, parts)

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
        return Known(self._select(database, f'"_id" IN {ASKED}'), read_table(found, self._told))

    def _select(self, database: sqlite3.Connection, where: str, *given: str) -> pa.Table:
        names = ", ".join(f'"{name}"' for name in self._schema.names)
        found = database.execute(f"SELECT {names} FROM events WHERE {where}", given)
        return read_table(found, self._schema)


def _horizon(database: sqlite3.Connection) -> int:
    found = read_number(database, HORIZON)
    return NEVER if found is None else found


def _pairs(named: Mapping[str, Collection[str]]) -> list[tuple[str, str]]:
    return [(column, value) for column, values in named.items() for value in sorted(values)]

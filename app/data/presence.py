"""Keep, in SQLite, when each value was present in a window: united spans, for counts of distinct.

A count of distinct values up to t is the number of united spans that have begun less those that
have ended. Knows intervals of groups (feature, entity, value); knows nothing of events.
"""

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

SCHEMA = """
CREATE TABLE IF NOT EXISTS spans (
    feature INTEGER, entity TEXT, value TEXT, start INTEGER, stop INTEGER NOT NULL,
    PRIMARY KEY (feature, entity, value, start)
) WITHOUT ROWID;
"""
_GROUP = "feature = ? AND entity = ? AND value = ?"
Span = tuple[int, int]


class Presence(NamedTuple):
    """A value that an entity has in the window of a feature."""

    feature: int
    entity: str
    value: str


def unite(
    database: sqlite3.Connection, group: Presence, added: Iterable[Span]
) -> list[tuple[int, int]]:
    """Add spans to a group; returns the (moment, weight) by which its count changes."""
    added = list(added)
    lowest, highest = min(start for start, _ in added), max(stop for _, stop in added)
    touched = database.execute(
        f"SELECT start, stop FROM spans WHERE {_GROUP} AND start <= ? AND stop >= ?",
        (*group, highest, lowest),
    ).fetchall()
    return _replace(database, group, touched, [*touched, *added])


def recount(
    database: sqlite3.Connection, group: Presence, whole: Iterable[Span]
) -> list[tuple[int, int]]:
    """Set all spans of a group anew; returns the (moment, weight) by which its count changes."""
    held = database.execute(f"SELECT start, stop FROM spans WHERE {_GROUP}", group).fetchall()
    return _replace(database, group, held, list(whole))


def drop(database: sqlite3.Connection, feature: int, side: str, name: str) -> None:
    """Forget all spans of an `entity` or of a `value`, which are the two sides."""
    assert side in ("entity", "value")
    database.execute(f"DELETE FROM spans WHERE feature = ? AND {side} = ?", (feature, name))


def drop_ended(database: sqlite3.Connection, horizon: int) -> None:
    """Forget spans that had ended by the horizon."""
    database.execute("DELETE FROM spans WHERE stop <= ?", (horizon,))


def united(spans: Iterable[Span]) -> list[Span]:
    """Unite spans that overlap or touch: `sweeps.merge_spans`, for the few of one group.

    >>> united([(8, 9), (0, 4), (3, 5)])
    [(0, 5), (8, 9)]
    """
    whole: list[Span] = []
    for start, stop in sorted(spans):
        if whole and start <= whole[-1][1]:
            whole[-1] = whole[-1][0], max(stop, whole[-1][1])
        else:
            whole.append((start, stop))
    return whole


def _replace(
    database: sqlite3.Connection, group: Presence, old: list[Span], spans: list[Span]
) -> list[tuple[int, int]]:
    new = united(spans)
    database.executemany(
        f"DELETE FROM spans WHERE {_GROUP} AND start = ?", [(*group, start) for start, _ in old]
    )
    database.executemany(
        "INSERT INTO spans VALUES (?, ?, ?, ?, ?)", [(*group, *span) for span in new]
    )
    gone = [entry for start, stop in old for entry in ((start, -1), (stop, 1))]
    return gone + [entry for start, stop in new for entry in ((start, 1), (stop, -1))]

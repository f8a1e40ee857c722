"""Keep exact sums over time in SQLite: what a group's moments add up to, up to any moment.

A moment adds its weights to one row on each of four levels, whose rows span 1 µs, 67 seconds, 72
minutes and 3.2 days. A sum up to t reads whole rows of a coarse level and finer ones for the rest:
at most some two hundred rows, however much was added. Moments before the horizon are folded into
one row a group and can no longer be told apart. Knows numbers; knows nothing of what they count.
"""

import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
SHIFTS = (0, 26, 32, 38)
COARSEST = len(SHIFTS) - 1
# The row of everything before the horizon: before every other row of its level.
FOLDED = -(2**40)
NUM_WEIGHTS = 5
WEIGHTS = ", ".join(f"w{i}" for i in range(NUM_WEIGHTS))
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS sums (
    slot INTEGER, entity TEXT, level INTEGER, bucket INTEGER, feature INTEGER,
    {", ".join(f"w{i} INTEGER NOT NULL" for i in range(NUM_WEIGHTS))},
    PRIMARY KEY (slot, entity, level, bucket, feature)
) WITHOUT ROWID;
"""
_ADD = (
    f"INSERT INTO sums VALUES ({', '.join('?' * (5 + NUM_WEIGHTS))}) ON CONFLICT DO UPDATE SET "
    + ", ".join(f"w{i} = w{i} + excluded.w{i}" for i in range(NUM_WEIGHTS))
)
_PART = f"SELECT feature, {WEIGHTS} FROM sums WHERE slot = :slot AND entity = :entity AND level ="
_TOTAL = (
    f"SELECT feature, {', '.join(f'SUM(w{i})' for i in range(NUM_WEIGHTS))} FROM ("
    f"{_PART} 3 AND bucket < :b3 UNION ALL "
    f"{_PART} 2 AND bucket >= :b3 << 6 AND bucket < :b2 UNION ALL "
    f"{_PART} 1 AND bucket >= :b2 << 6 AND bucket < :b1 UNION ALL "
    f"{_PART} 0 AND bucket >= :b1 << 26 AND bucket <= :b0) GROUP BY feature"
)
_FOLD = (
    "CREATE TEMP TABLE folded AS SELECT slot, entity, feature, "
    + ", ".join(f"SUM(w{i}) AS w{i}" for i in range(NUM_WEIGHTS))
    + f" FROM sums WHERE level = {COARSEST} AND bucket < :edge GROUP BY slot, entity, feature"
)


def add(
    database: sqlite3.Connection,
    groups: Sequence[tuple[int, str, int]],
    of_group: Ints,
    moments: Ints,
    weights: Ints,
) -> None:
    """Add weights [5, n] at moments [n] of groups, named by slot, entity and feature."""
    for level, shift in enumerate(SHIFTS):
        buckets = moments >> shift
        order = np.lexsort((buckets, of_group))
        group, bucket = of_group[order], buckets[order]
        fresh = np.append(True, (np.diff(group) != 0) | (np.diff(bucket) != 0))[: len(order)]
        first = np.flatnonzero(fresh)
        if not len(first):
            return
        sums = np.add.reduceat(weights[:, order], first, axis=1)
        kept = sums.any(axis=0)
        cells = zip(
            group[first][kept].tolist(),
            bucket[first][kept].tolist(),
            sums[:, kept].T.tolist(),
            strict=True,
        )
        database.executemany(
            _ADD, ((*groups[g][:2], level, b, groups[g][2], *row) for g, b, row in cells)
        )


def total(
    database: sqlite3.Connection, slot: int, entity: str, moment: int
) -> list[tuple[int, ...]]:
    """Add up a group's weights up to a moment, inclusive: (feature, five sums) for each feature."""
    b0, b1, b2, b3 = (moment >> shift for shift in SHIFTS)
    given = {"slot": slot, "entity": entity, "b0": b0, "b1": b1, "b2": b2, "b3": b3}
    return database.execute(_TOTAL, given).fetchall()


def horizon_before(moment: int) -> int:
    """Give the latest moment, not after this one, before which rows can be folded."""
    return moment >> SHIFTS[COARSEST] << SHIFTS[COARSEST]


def drop(database: sqlite3.Connection, slot: int, entity: str) -> None:
    """Forget all sums of an entity."""
    database.execute("DELETE FROM sums WHERE slot = ? AND entity = ?", (slot, entity))


def fold(database: sqlite3.Connection, horizon: int) -> None:
    """Fold all before a horizon into one row a group: sums up to later moments stay the same."""
    edge = horizon >> SHIFTS[COARSEST]
    database.execute(_FOLD, {"edge": edge})
    for level, shift in enumerate(SHIFTS):
        database.execute(
            "DELETE FROM sums WHERE level = ? AND bucket < ?", (level, horizon >> shift)
        )
    database.execute(
        f"INSERT INTO sums SELECT slot, entity, {COARSEST}, {FOLDED}, feature, {WEIGHTS} "
        f"FROM folded WHERE {' OR '.join(f'w{i} != 0' for i in range(NUM_WEIGHTS))}"
    )
    database.execute("DROP TABLE folded")

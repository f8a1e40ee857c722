"""Merge small data files of a table, so that reading it opens few.

Knows files and commits; knows nothing of what rows mean. A merged file stands instead of small ones
in the new version and adds no row; the small ones stay, so that older versions stay readable, until
retention removes those that nobody needs.
"""

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from app.data.commits import LiveFile, commit, live_files, open_table
from app.data.datafiles import DataFiles
from app.data.delta_log import sync
from app.data.locks import committing

SMALL_BYTES = 32 * 2**20
ROW_GROUP_ROWS = 2**17


def plan_compaction(
    files: Sequence[LiveFile], small_bytes: int, max_small_files: int
) -> list[list[LiveFile]]:
    """Group the small files that are to become one, in their order; none while there are few.

    A group is closed once it is no longer small.

    >>> small = [LiveFile(str(i), 4, 1) for i in range(5)]
    >>> [len(group) for group in plan_compaction(small, 10, 4)], plan_compaction(small, 10, 5)
    ([3, 2], [])
    """
    small = [file for file in files if file.size < small_bytes]
    if len(small) <= max_small_files:
        return []
    groups: list[list[LiveFile]] = [[]]
    for file in small:
        if sum(member.size for member in groups[-1]) >= small_bytes:
            groups.append([])
        groups[-1].append(file)
    return [group for group in groups if len(group) > 1]


def compact_files(files: DataFiles, small_bytes: int, max_small_files: int) -> None:
    """Merge small files, one commit a group.

    The caller uses the table; others append meanwhile. Files that another compaction took in the
    meantime are left to it.
    """
    table = open_table(files.folder)
    if table is None:
        return
    for group in plan_compaction(live_files(table), small_bytes, max_small_files):
        _merge(files, group)


def _merge(files: DataFiles, group: Sequence[LiveFile]) -> None:
    rows = (part for file in group for part in files.row_groups(file.path))
    merged = files.write(_regrouped(rows))
    assert merged.num_rows == sum(file.num_rows for file in group)
    sync(files.folder)
    with committing(files.folder):
        table = open_table(files.folder)
        assert table is not None
        is_live = set(group) <= set(live_files(table))
        done = is_live and commit(table, [merged], instead_of=group) is not None
    if not done:
        files.discard([merged])


def _regrouped(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Gather small row groups to large ones, of ROW_GROUP_ROWS or a little more."""
    waiting: list[pa.Table] = []
    for part in parts:
        waiting.append(part)
        if sum(table.num_rows for table in waiting) >= ROW_GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)

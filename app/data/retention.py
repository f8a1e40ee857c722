"""Delete data files that only versions need which nobody needs any more.

Knows the log, what is pinned and ages; knows nothing of rows or of models. The log itself stays: it
says of every version what it held, and a version whose files are gone is refused when it is read.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import Field

from app.contracts.rows import Frozen
from app.data.delta_log import Action, all_actions, data_files, path_of, sync
from app.data.locks import exclusive
from app.data.replacement import finish_replacement
from app.data.schemas import TableName
from app.data.tables import Tables


class Needs(NamedTuple):
    """What of a table must stay readable, beside its latest version."""

    pinned: Collection[int] = ()
    """Versions that snapshots of live models pin."""
    since: datetime = datetime.max.replace(tzinfo=UTC)
    """Every version that was the latest at this time or later."""
    read_until: int | None = None
    """What was appended after this version has a reader to come; None: there is no reader."""


class Retained(Frozen):
    """What retention did to one table."""

    table: TableName
    num_files: int = Field(0, ge=0, description="Files deleted.")
    num_bytes: int = Field(0, ge=0, description="Their size.")


def plan_retention(commits: Iterable[tuple[int, list[Action]]], needs: Needs) -> set[str]:
    """Say which files, of those that the log names, nobody needs. Commits begin at version 0."""
    live: set[str] = set()
    named: set[str] = set()
    needed: set[str] = set()
    is_recent = False
    for version, commit in commits:
        if not is_recent and _time(commit) > needs.since:
            # The version before this one was the latest at that time.
            is_recent = True
            needed |= live
        removed = {path_of(action["remove"]) for action in commit if "remove" in action}
        adds = [action["add"] for action in commit if "add" in action]
        added = {path_of(add) for add in adds}
        live = (live - removed) | added
        named |= added
        if is_recent:
            needed |= added
        if version in needs.pinned:
            needed |= live
        if needs.read_until is not None and version > needs.read_until:
            needed |= {path_of(add) for add in adds if add["dataChange"]}
    return named - needed - live


def retain(tables: Tables, name: TableName, needs: Needs) -> Retained:
    """Delete the files of a table that nobody needs, and those that no version names.

    Appends and reads wait meanwhile. Cut off at any point, it may be called again. Raises
    LogUnusable for a log that does not begin at version 0.
    """
    folder = tables.folder(name)
    if not folder.is_dir():
        return Retained(table=name)
    with exclusive(folder):
        finish_replacement(folder)
        commits = list(all_actions(folder))
        named = {path_of(a["add"]) for _, commit in commits for a in commit if "add" in a}
        there = set(data_files(folder))
        deleted = sorted(there & plan_retention(commits, needs) | there - named)
        num_bytes = sum((folder / file).stat().st_size for file in deleted)
        for file in deleted:
            (folder / file).unlink()
        sync(folder)
    return Retained(table=name, num_files=len(deleted), num_bytes=num_bytes)


def _time(commit: list[Action]) -> datetime:
    facts: Action = next((action["commitInfo"] for action in commit if "commitInfo" in action), {})
    if "timestamp" not in facts:
        # A commit that does not say when it was counts as recent.
        return datetime.max.replace(tzinfo=UTC)
    return datetime.fromtimestamp(facts["timestamp"] / 1000, UTC)

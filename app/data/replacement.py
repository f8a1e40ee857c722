"""Replace data files of a Delta table in every version that names them, whatever interrupts it.

Knows the log; knows nothing of rows or of why a file is replaced. The plan is written first and
says all that is to do. From then on every step may be done again: whoever next uses the table
carries out what is left. The caller holds the table alone.

Readers that do not ask `Tables` (Ray Data, polars) see a mixture of old and new names while a
replacement is under way.
"""

from pathlib import Path

from deltalake import DeltaTable
from pydantic import Field

from app.contracts.rows import Frozen
from app.data.datafiles import DataFile
from app.data.delta_log import (
    Action,
    all_actions,
    change_commit,
    checkpoints,
    data_files,
    drop_derived,
    path_of,
    sync,
    write_durably,
)

PLAN = "_replacement.json"
WITHHELD = "[withheld]"


class Replacement(Frozen):
    """What all versions name instead of a file; None when nothing of it is left."""

    old: str
    new: DataFile | None


class Plan(Frozen):
    """All that one replacement changes."""

    replacements: tuple[Replacement, ...]
    versions: tuple[int, ...] = Field(description="Commits that are to be written anew.")
    checkpoints: tuple[int, ...] = Field(description="Versions that get their checkpoint again.")
    unnamed: tuple[str, ...] = Field(description="Files that no version names, to be deleted.")


def plan_replacement(table: Path, replacements: tuple[Replacement, ...]) -> Plan:
    """Find what in a table's log and folder a replacement concerns; changes nothing.

    Commits whose predicate quotes values are among them. Raises LogUnusable for a log that does not
    begin at version 0.
    """
    old = {item.old for item in replacements}
    new = {item.new.path for item in replacements if item.new}
    versions, named = [], set()
    for version, commit in all_actions(table):
        named |= {path_of(action["add"]) for action in commit if "add" in action}
        if any(_paths(action) & old or _quotes(action) for action in commit):
            versions.append(version)
    return Plan(
        replacements=replacements,
        versions=tuple(versions),
        checkpoints=tuple(checkpoints(table)) if versions else (),
        unnamed=tuple(file for file in data_files(table) if file not in named | new),
    )


def replace(table: Path, plan: Plan) -> None:
    """Carry a plan out. Its new files are there and synced."""
    sync(table)
    write_durably(table / PLAN, plan.model_dump_json())
    finish_replacement(table)


def is_interrupted(table: Path) -> bool:
    """Say whether a replacement is under way, or was when its process ended. Cheap."""
    return (table / PLAN).exists()


def finish_replacement(table: Path) -> Plan | None:
    """Carry out what is left of a plan, and return it; None when there is none."""
    if not is_interrupted(table):
        return None
    plan = Plan.model_validate_json((table / PLAN).read_text())
    if plan.versions:
        # First, so that no checkpoint names a file that the commits no longer name.
        drop_derived(table)
        _rename(table, plan)
        for version in plan.checkpoints:
            DeltaTable(table, version=version).create_checkpoint()
    for file in [*(item.old for item in plan.replacements), *plan.unnamed]:
        (table / file).unlink(missing_ok=True)
    sync(table)
    (table / PLAN).unlink()
    sync(table)
    return plan


def _rename(table: Path, plan: Plan) -> None:
    new = {item.old: item.new for item in plan.replacements}

    def change(action: Action) -> Action | None:
        for kind in ("add", "remove"):
            if kind in action and path_of(action[kind]) in new:
                return _renamed(action, kind, new[path_of(action[kind])])
        if _quotes(action):
            action["commitInfo"]["operationParameters"]["predicate"] = WITHHELD
        return action

    for version in plan.versions:
        change_commit(table, version, change)


def _renamed(action: Action, kind: str, new: DataFile | None) -> Action | None:
    if new is None:
        return None
    facts = action[kind] | {"path": new.path, "size": new.size}
    if "stats" in facts:
        facts["stats"] = new.stats
    return action | {kind: facts}


def _paths(action: Action) -> set[str]:
    return {path_of(action[kind]) for kind in ("add", "remove") if kind in action}


def _quotes(action: Action) -> bool:
    """Say whether a commit quotes values: the predicate of a deletion names what was deleted."""
    predicate = action.get("commitInfo", {}).get("operationParameters", {}).get("predicate")
    return predicate not in (None, "[]", WITHHELD)

"""Drop rows from every version of a table, and from Delta's own log.

Knows data files and which rows stay; knows nothing of whose rows they are. A table only grows, so
that a deletion would leave its rows to older versions and its predicate to the log. Here each file
that holds such rows is written anew without them, all versions name the new file, and the old one
is deleted. Rows that stay are the same, in the same order, in every version.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from app.contracts.rows import Frozen
from app.data.delta_log import LogUnusable, all_actions, live_files, named_files
from app.data.locks import exclusive
from app.data.replacement import Replacement, finish_replacement, plan_replacement, replace
from app.data.schemas import TableName
from app.data.tables import Tables

Keep = Callable[[pa.Table], npt.NDArray[np.bool_]]


class Rewritten(Frozen):
    """What a rewriting did to one table."""

    table: TableName
    num_files: int = Field(0, ge=0, description="Files that held rows to drop.")
    num_rows: int = Field(0, ge=0, description="Rows dropped from the latest version.")
    num_copies: int = Field(0, ge=0, description="Rows dropped from files, copies of rows too.")
    num_unnamed: int = Field(0, ge=0, description="Files deleted that no version named.")


def rewrite_versions(tables: Tables, name: TableName, keep: Keep) -> Rewritten:
    """Drop the rows that `keep` does not keep from all versions of a table.

    `keep` judges each row by itself: it gets some rows in the table's schema and returns which of
    them stay, booleans [rows]. It is called for every file in the table's folder. Afterwards every
    version that could be read still can, no file or log of the table holds a dropped row, and files
    that no version names are gone. Appends and reads through `Tables` wait meanwhile.

    May be called again at any time: a call that was cut off is carried out first, by the next
    reader if one comes earlier; its rows are then gone and in no count. Raises LogUnusable for a
    log with parts that cannot be changed safely.
    """
    table = tables.folder(name)
    if not table.is_dir():
        return Rewritten(table=name)
    with exclusive(table):
        finish_replacement(table)
        commits = list(all_actions(table))
        _refuse_strange(table, [action for _, commit in commits for action in commit])
        live = live_files(commits)
        replaced, done = [], Rewritten(table=name)
        for file in named_files(table):
            replacement, num_dropped = _without(tables, name, file, keep)
            if replacement is None:
                continue
            replaced.append(replacement)
            done = done.model_copy(
                update={
                    "num_files": done.num_files + 1,
                    "num_rows": done.num_rows + (num_dropped if file in live else 0),
                    "num_copies": done.num_copies + num_dropped,
                }
            )
        plan = plan_replacement(table, tuple(replaced))
        if plan.replacements or plan.versions or plan.unnamed:
            replace(table, plan)
    return done.model_copy(update={"num_unnamed": len(plan.unnamed)})


def _without(
    tables: Tables, name: TableName, file: str, keep: Keep
) -> tuple[Replacement | None, int]:
    """Write a file's remaining rows to a new one; None when it holds no rows to drop."""
    files = tables.files(name)
    num_rows, num_kept = 0, 0
    for part in files.row_groups(file):
        num_rows += part.num_rows
        num_kept += int(np.count_nonzero(_kept(part, keep)))
    if num_kept == num_rows:
        return None, 0
    if num_kept == 0:
        return Replacement(old=file, new=None), num_rows

    def parts() -> Iterator[pa.Table]:
        for part in files.row_groups(file):
            yield part.filter(pa.array(_kept(part, keep)))

    new = files.write(parts())
    return Replacement(old=file, new=new), num_rows - num_kept


def _kept(part: pa.Table, keep: Keep) -> npt.NDArray[np.bool_]:
    kept = np.asarray(keep(part))
    if kept.dtype != np.bool_ or kept.shape != (part.num_rows,):
        raise ValueError(
            f"keep must return {part.num_rows} booleans, one a row, got {kept.dtype} {kept.shape}"
        )
    return kept


def _refuse_strange(table: Path, found: list[dict[str, dict[str, object]]]) -> None:
    for action in found:
        if "cdc" in action or action.get("add", {}).get("deletionVector"):
            raise LogUnusable(
                f"{table}: the log has change files or deletion vectors, which cannot be rewritten "
                "safely; copy the rows into a new table"
            )

"""Read a Delta table's own log, and change what its commits say.

Knows the protocol's files: a commit is lines of JSON, a checkpoint sums up the commits before it
and can be made from them anew. Knows nothing of rows. Whoever changes a log holds the table alone.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq

COMMIT = re.compile(r"\d{20}\.json")
CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.")

Action = dict[str, Any]


class LogUnusable(ValueError):
    """A log that holds what this house neither writes nor can change safely."""


def log_folder(table: Path) -> Path:
    """Return the folder of a table's log."""
    return table / "_delta_log"


def latest_version(table: Path) -> int:
    """Return the latest version of a table, -1 when it does not exist. Cheap: made to poll."""
    try:
        names = [entry.name for entry in log_folder(table).iterdir()]
    except FileNotFoundError:
        return -1
    return max((int(name[:20]) for name in names if COMMIT.fullmatch(name)), default=-1)


def actions(table: Path, version: int) -> list[Action]:
    """Return the actions of one commit."""
    lines = _commit_file(table, version).read_text().splitlines()
    return [json.loads(line) for line in lines if line]


def all_actions(table: Path) -> Iterator[tuple[int, list[Action]]]:
    """Yield every commit, oldest first. Raises LogUnusable when the log does not begin at 0."""
    for version in range(latest_version(table) + 1):
        if not _commit_file(table, version).exists():
            raise LogUnusable(
                f"{table}: its log lacks version {version}, so older versions cannot be changed; "
                "restore the log, or copy the rows into a new table"
            )
        yield version, actions(table, version)


def path_of(action: Action) -> str:
    """Return the path, relative to the table, that an add or a remove names."""
    return unquote(action["path"])


def added(table: Path, version: int) -> list[Action]:
    """Return what one commit added of new rows, in its order; compaction adds none."""
    adds = [action["add"] for action in actions(table, version) if "add" in action]
    return [add for add in adds if add["dataChange"]]


def named_files(table: Path) -> list[str]:
    """List the files that some version of a table names and that are still there."""
    named = {
        path_of(action["add"])
        for _, commit in all_actions(table)
        for action in commit
        if "add" in action
    }
    return sorted(file for file in named if (table / file).exists())


def live_files(commits: Iterable[tuple[int, list[Action]]]) -> dict[str, Action]:
    """Return the add of every file that the last of these commits, from 0 on, leaves in a table."""
    live: dict[str, Action] = {}
    for _, commit in commits:
        for action in commit:
            if "remove" in action:
                live.pop(path_of(action["remove"]), None)
        live |= {path_of(action["add"]): action["add"] for action in commit if "add" in action}
    return live


def transactions(table: Path) -> dict[str, int]:
    """Return the latest transaction number of every application, from one pass over the log.

    The library asks the whole log anew for each application.
    """
    numbers: dict[str, int] = {}
    summed = [
        version for version in checkpoints(table) if _checkpoint_file(table, version).exists()
    ]
    if summed:
        noted = pq.read_table(_checkpoint_file(table, summed[-1]), columns=["txn"])["txn"]
        numbers = {each["appId"]: each["version"] for each in noted.drop_null().to_pylist()}
    for version in range(summed[-1] + 1 if summed else 0, latest_version(table) + 1):
        for action in actions(table, version):
            if "txn" in action:
                numbers[action["txn"]["appId"]] = action["txn"]["version"]
    return numbers


def checkpoints(table: Path) -> list[int]:
    """Return the versions that have a checkpoint, oldest first."""
    found = (CHECKPOINT.match(entry.name) for entry in log_folder(table).iterdir())
    return sorted({int(match[1]) for match in found if match})


def data_files(table: Path) -> list[str]:
    """Return the relative paths of all files that lie in a table's folder beside its log.

    A name that begins with `_` is no data: Delta and this house keep their own notes there.
    """
    paths = (file.relative_to(table) for file in table.rglob("*") if file.is_file())
    return sorted(path.as_posix() for path in paths if not path.parts[0].startswith("_"))


def drop_derived(table: Path) -> None:
    """Delete all that lies in the log beside commits; every version is still read from those."""
    for entry in sorted(log_folder(table).iterdir()):
        if COMMIT.fullmatch(entry.name):
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    sync(log_folder(table))


def change_commit(table: Path, version: int, change: Callable[[Action], Action | None]) -> None:
    """Change or drop (None) each action of a commit, at once and for good; its time stays."""
    file = _commit_file(table, version)
    changed = (change(action) for action in actions(table, version))
    lines = [json.dumps(action, separators=(",", ":")) for action in changed if action is not None]
    # The log's time of a version is its file's.
    write_durably(file, "\n".join(lines), like=file)


def write_durably(file: Path, text: str, like: Path | None = None) -> None:
    """Write a file aside, sync it and rename it into place; give it the times of another."""
    aside = file.with_name(f"{file.name}.aside")
    with aside.open("w") as output:
        output.write(text)
        output.flush()
        os.fsync(output.fileno())
    if like is not None:
        status = like.stat()
        os.utime(aside, ns=(status.st_atime_ns, status.st_mtime_ns))
    aside.replace(file)
    sync(file.parent)


def sync(folder: Path) -> None:
    """Make what was created, renamed or deleted in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _commit_file(table: Path, version: int) -> Path:
    return log_folder(table) / f"{version:020d}.json"


def _checkpoint_file(table: Path, version: int) -> Path:
    return log_folder(table) / f"{version:020d}.checkpoint.parquet"

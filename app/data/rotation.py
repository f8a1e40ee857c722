"""Bring every data file of a model under the newest master key.

Knows tables, their files' names and a ring of keys; knows nothing of rows. A file is written anew,
with new data keys, and all versions name the new one: what was sealed with the old key is gone from
the tables, so that a key that leaked opens nothing.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from app.contracts.rows import Frozen
from app.data.datafiles import DataFiles
from app.data.delta_log import data_files, named_files
from app.data.locks import exclusive
from app.data.replacement import Replacement, finish_replacement, plan_replacement, replace
from app.data.sealing import key_of
from app.data.tables import NAMES, TableName, Tables
from app.security.keyring import Keyring

# A table is free for others between two portions, and so much more of the disk is needed.
PORTION_BYTES = 2**30


class Rotated(Frozen):
    """What a rotation did."""

    key: str | None = Field(description="The master key that all files are under; None: plain.")
    num_files: dict[TableName, int] = Field(description="Files written anew, by table.")
    retired: tuple[str, ...] = Field(description="Keys that were destroyed.")
    unneeded: tuple[str, ...] = Field(description="Keys of no file, for the ring's owner to drop.")


def rotate(tables: Tables, keyring: Keyring) -> Rotated:
    """Make a new master key, bring all files under it, and retire those that no file needs.

    Where files are not to be sealed at rest, all become plain. Cut off at any point it may be
    called again, and goes on with the same key. Appends and reads wait while a portion of their
    table is exchanged. Backups of older files need a backup of the older ring.
    """
    key = keyring.renew() if tables.sealing.at_rest else None
    num_files = {name: sum(_reseal(tables.files(name))) for name in NAMES}
    # What is written since has the newest key: every table was held alone after it came.
    folders = (tables.folder(name) for name in NAMES if tables.folder(name).is_dir())
    needed = {key_of(file) for folder in folders for file in data_files(folder)}
    spare = [each for each in keyring.ids() if each not in needed and each != keyring.current()]
    retired = tuple(each for each in spare if keyring.retire(each))
    return Rotated(
        key=key,
        num_files=num_files,
        retired=retired,
        unneeded=tuple(each for each in spare if each not in retired),
    )


def _reseal(files: DataFiles) -> Iterator[int]:
    """Exchange the files that are under another key, a portion at a time; yield how many."""
    if not files.folder.is_dir():
        return
    while True:
        with exclusive(files.folder):
            finish_replacement(files.folder)
            portion = _portion(files.folder, files.current_key())
            replacements = tuple(
                Replacement(old=old, new=files.write(files.row_groups(old))) for old in portion
            )
            plan = plan_replacement(files.folder, replacements)
            if plan.replacements or plan.unnamed:
                replace(files.folder, plan)
        if not portion:
            return
        yield len(portion)


def _portion(folder: Path, key: str | None) -> list[str]:
    portion: list[str] = []
    num_bytes = 0
    for file in named_files(folder):
        if key_of(file) == key:
            continue
        num_bytes += (folder / file).stat().st_size
        if portion and num_bytes > PORTION_BYTES:
            break
        portion.append(file)
    return portion

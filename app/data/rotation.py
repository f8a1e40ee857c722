"""Bring every data file of a model under the newest master key.

Knows tables, their files' names and a ring of keys; knows nothing of rows. A file is written anew,
with new data keys, and all versions name the new one: what was sealed with the old key is gone from
the tables, so that a key that leaked opens nothing. An older key that something outside the tables
still needs is kept, and why is told.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Protocol

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


# What needs a key, by the key's id.
Needed = dict[str, list[str]]


class Place(Protocol):
    """Where something is sealed outside the tables."""

    def reseal(self) -> int:
        """Bring what can be under the newest key; returns how many things were."""
        ...

    def needing(self) -> AbstractContextManager[Needed]:
        """Tell which keys are needed, while nobody seals anything new there."""
        ...


class Rotated(Frozen):
    """What a rotation did."""

    key: str | None = Field(description="The master key that all files are under; None: plain.")
    num_files: dict[TableName, int] = Field(description="Files written anew, by table.")
    retired: tuple[str, ...] = Field(description="Keys that were destroyed.")
    unneeded: tuple[str, ...] = Field(description="Keys of no file, for the ring's owner to drop.")
    num_elsewhere: int = Field(0, description="Things outside the tables that were sealed anew.")
    kept: dict[str, tuple[str, ...]] = Field(
        {}, description="Older keys that are still needed, and for what: rotate again without that."
    )


def rotate(tables: Tables, keyring: Keyring, places: Sequence[Place] = ()) -> Rotated:
    """Make a new master key, bring all files under it, and retire those that no file needs.

    Where files are not to be sealed at rest, all become plain. Cut off at any point it may be
    called again, and goes on with the same key. Appends and reads wait while a portion of their
    table is exchanged. Backups of older files need a backup of the older ring. A key that one of
    the `places` outside the tables needs is kept: called again without that, it is retired.
    """
    key = keyring.renew() if tables.sealing.at_rest else None
    num_files = {name: sum(_reseal(tables.files(name))) for name in NAMES}
    num_elsewhere = sum(place.reseal() for place in places)
    with ExitStack() as held:
        # Nobody can begin to need a key between this look and its end.
        elsewhere = [held.enter_context(place.needing()) for place in places]
        # What is written since has the newest key: every table was held alone after it came.
        folders = (tables.folder(name) for name in NAMES if tables.folder(name).is_dir())
        needed = {key_of(file) for folder in folders for file in data_files(folder)}
        older = [each for each in keyring.ids() if each != keyring.current()]
        kept = {
            each: tuple(why for one in elsewhere for why in one.get(each, ())) for each in older
        }
        spare = [each for each in older if each not in needed and not kept[each]]
        retired = tuple(each for each in spare if keyring.retire(each))
    return Rotated(
        key=key,
        num_files=num_files,
        retired=retired,
        unneeded=tuple(each for each in spare if each not in retired),
        num_elsewhere=num_elsewhere,
        kept={each: why for each, why in kept.items() if why},
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

"""Keep judged blocks in files between those who judge them and the commit of their delivery.

A block's files are written aside and renamed, under names that say which block it is: a worker that
is killed and tried again writes the same files. Knows judged rows and Parquet; knows nothing of
Ray, sources or Delta.
"""

import contextlib
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from app.data.intake import Judged
from app.data.locks import locked
from app.data.pieces import NOWHERE, POSITION, left_out_of
from app.data.seen import Hashes
from app.data.stagedfiles import StagedFiles

STAGING = "staging"
HIGH, LOW = "__high", "__low"
MAX_REASONS = 50
OTHER = "other reasons"
STAGED = pa.schema(
    [
        ("delivery", pa.string()),
        ("first", pa.int64()),
        ("num_accepted", pa.int64()),
        ("num_refused", pa.int64()),
        ("num_in", pa.int64()),
        ("accepted", pa.string()),
        ("refused", pa.list_(pa.string())),
        ("reasons", pa.string()),
        ("problem", pa.string()),
        ("left_out", pa.list_(pa.string())),
        ("tally", pa.string()),
    ]
)


class Busy(ValueError):
    """Another ingest works in the same workspace."""


@dataclass(frozen=True)
class Staged:
    """The files of one judged block; `first` is the position of its first row as it was read.

    `num_in` counts its rows as they were read, apart from what became of them. `reasons` counts
    refusals by what they say, without the values. With a `problem` there was no block: the piece
    could not be read. `tally` is the file of what its rows add up to, while it holds for them.
    `left_out` are columns that some of its rows had and that were dropped.
    """

    delivery: str
    first: int
    num_accepted: int = 0
    num_refused: int = 0
    num_in: int = 0
    accepted: str | None = None
    refused: tuple[str, ...] = ()
    reasons: dict[str, int] = field(default_factory=dict)
    problem: str | None = None
    left_out: tuple[str, ...] = ()
    tally: str | None = None

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Staged":
        """Read a block's row of STAGED."""
        lists = {name: tuple(row[name]) for name in ("refused", "left_out")}
        return cls(**{**row, **lists, "reasons": orjson.loads(row["reasons"])})

    @property
    def name(self) -> str:
        """Name the block: a second try has the same name."""
        return f"{self.delivery}-{self.first:012d}"

    @property
    def paths(self) -> list[str]:
        """List its files."""
        return [path for path in (self.accepted, *self.refused, self.tally) if path]

    def as_row(self) -> pa.Table:
        """Describe the block as a row of STAGED: what travels through a cluster."""
        row = {**vars(self), "reasons": orjson.dumps(self.reasons).decode()}
        return pa.Table.from_pylist([row], STAGED)


def stage(
    judged: Judged, hashes: Sequence[Hashes], delivery: str, block: pa.Table, files: StagedFiles
) -> Staged:
    """Write the files of a block of a delivery, as it was read and as it was judged.

    `hashes` are those of what must not come twice in the accepted rows: ids first.
    """
    places = block[POSITION].to_numpy()
    first = int(places.min()) if len(places) else 0
    if first == NOWHERE:
        reason: str = judged.refused["reasons"][0].as_py()[0]
        return Staged(delivery, first, problem=reason.removeprefix("row "))
    block_name = Staged(delivery, first).name
    accepted = refused = None
    if judged.accepted.num_rows:
        accepted = files.write(_hashed(judged.accepted, hashes), block_name)
    if judged.refused.num_rows:
        refused = files.write(judged.refused, f"{block_name}-refused")
    return Staged(
        delivery,
        first,
        judged.accepted.num_rows,
        judged.refused.num_rows,
        judged.accepted.num_rows + judged.refused.num_rows,
        accepted,
        (refused,) if refused else (),
        count_reasons(judged.refused),
        left_out=left_out_of(block),
    )


def _hashed(rows: pa.Table, hashes: Sequence[Hashes]) -> pa.Table:
    for number, each in enumerate(hashes):
        rows = rows.append_column(f"{HIGH}{number}", pa.array(each.high))
        rows = rows.append_column(f"{LOW}{number}", pa.array(each.low))
    return rows


def hashes_of(files: StagedFiles, path: str, number: int = 0) -> Hashes:
    """Read hashes of a block's accepted rows: of ids, or of the next unique columns."""
    names = [f"{HIGH}{number}", f"{LOW}{number}"]
    table = files.read(path, names)
    return Hashes(*(table[name].to_numpy() for name in names))


def known_in(files: StagedFiles, path: str, column: str) -> npt.NDArray[np.bool_]:
    """Tell which of a block's accepted rows have a value in a column."""
    values = files.read(path, [column])[column]
    known: npt.NDArray[np.bool_] = values.is_valid().to_numpy()
    return known


def count_reasons(refused: pa.Table) -> dict[str, int]:
    """Count what reasons say, without the values that they quote; rare ones together."""
    counts = Counter(
        str(reason).partition(", got ")[0]
        for reasons in refused["reasons"].to_pylist()
        for reason in reasons
    )
    return merge_reasons([counts])


def merge_reasons(counts: list[Counter[str]] | list[dict[str, int]]) -> dict[str, int]:
    """Add counts of reasons; beyond MAX_REASONS the rarest are counted together."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    rest = total.pop(OTHER, 0)
    kept = total.most_common(MAX_REASONS)
    rest += total.total() - sum(number for _, number in kept)
    return dict(kept) | ({OTHER: rest} if rest else {})


@contextlib.contextmanager
def staging_folder(workspace: Path) -> Iterator[Path]:
    """Give an ingest a folder of its own, and the workspace to itself.

    What a killed ingest left is removed. Raises Busy while another one is at work.
    """
    with _alone(workspace) as root:
        _clear(root)
        folder = root / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _remove(folder)


def clear_leftovers(workspace: Path) -> None:
    """Remove what killed ingests left. One that is at work did that itself, as it began."""
    if not (workspace / STAGING).is_dir():
        return
    with contextlib.suppress(Busy), nothing_staged(workspace):
        return


@contextlib.contextmanager
def nothing_staged(workspace: Path) -> Iterator[None]:
    """Remove what killed ingests left, and let none begin meanwhile.

    Raises Busy while one is at work.
    """
    with _alone(workspace) as root:
        _clear(root)
        yield


@contextlib.contextmanager
def _alone(workspace: Path) -> Iterator[Path]:
    """Hold the workspace's staging, or raise Busy."""
    root = workspace / STAGING
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(root / "lock", wait=False))
        except BlockingIOError:
            raise Busy(f"{workspace}: another ingest is at work; wait until it ends") from None
        yield root


def _clear(root: Path) -> None:
    for entry in root.iterdir():
        if entry.is_dir():
            _remove(entry)


def _remove(folder: Path) -> None:
    """Remove a folder that a worker may still write to: under its name it is gone at once."""
    gone = folder.with_name(f"{folder.name}.gone")
    folder.rename(gone)
    shutil.rmtree(gone)

"""Settle a delivery whose blocks are judged: ids that come again are refused, rows are counted.

Everything that is known of a delivery is known here, before anything of it is committed. Knows
staged files and seen ids, one block at a time; knows nothing of Ray, sources or Delta.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.contracts.rows import Column, Contract
from app.data.delivered_labels import LABEL_COLUMNS, as_delivered, label_columns
from app.data.intake import refuse_rows
from app.data.limits import each
from app.data.quarantine import Reasons
from app.data.seen import Hashes, SeenIds, repeats
from app.data.stagedfiles import StagedFiles
from app.data.staging import Staged, count_reasons, hashes_of, known_in, merge_reasons
from app.security.privacy import Pseudonymiser

BEFORE = "was ingested before"
AGAIN = "is given more than once; the first row is kept"
SECOND_OUTCOME = "has an outcome of that time already; the first is kept"


class Problem(NamedTuple):
    """What is wrong with the rows of a block that a mask marks, in a column."""

    column: Column
    mask: npt.NDArray[np.bool_]
    problem: str


@dataclass
class Ids:
    """Values of one column: what the tables held when an ingest began, and what it has added."""

    before: SeenIds = field(default_factory=SeenIds)
    added: SeenIds = field(default_factory=SeenIds)

    def contains(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Tell which hashes are in."""
        return self.before.contains(hashes) | self.added.contains(hashes)


@dataclass(frozen=True)
class Settled:
    """All of one delivery that an ingest takes. num_in = num_accepted + num_quarantined.

    `ids` are the values of unique columns that its accepted rows add, by column. `files` is what
    its blocks are read with.
    """

    delivery: str
    blocks: tuple[Staged, ...]
    ids: Mapping[str, SeenIds]
    files: StagedFiles

    @property
    def num_accepted(self) -> int:
        """Rows to be kept."""
        return sum(block.num_accepted for block in self.blocks)

    @property
    def num_quarantined(self) -> int:
        """Rows that were refused."""
        return sum(block.num_refused for block in self.blocks)

    @property
    def num_in(self) -> int:
        """Rows that came in, counted before they were parted."""
        return sum(block.num_in for block in self.blocks)

    @property
    def left_out(self) -> frozenset[str]:
        """Columns that some rows had and that were dropped."""
        return frozenset(name for block in self.blocks for name in block.left_out)

    @property
    def reasons(self) -> dict[str, int]:
        """Counts of what the reasons say; a row may have several."""
        return merge_reasons([block.reasons for block in self.blocks])

    def accepted(self) -> Iterator[pa.Table]:
        """Read the rows to be kept, block by block."""
        return (self.files.read(block.accepted) for block in self.blocks if block.accepted)

    def refused(self) -> Iterator[pa.Table]:
        """Read the rows that were refused, block by block."""
        return (self.files.read(path) for block in self.blocks for path in block.refused)

    def discard(self) -> None:
        """Delete the staged files of a delivery that is committed."""
        for block in self.blocks:
            for path in block.paths:
                Path(path).unlink()


def settle_rows(
    delivery: str,
    blocks: Sequence[Staged],
    contract: Contract,
    seen: Mapping[str, Ids],
    pseudonymiser: Pseudonymiser,
    files: StagedFiles,
) -> Settled:
    """Refuse rows whose id came before; of rows with one id the first of the delivery is kept.

    The same holds for the other unique columns, in which nulls may come again. Blocks may come in
    any order. What is `seen`, by column, is not added to: that is for the commit.
    """
    current = {column.name: SeenIds() for column in contract.unique}
    settled = []
    for block in sorted(blocks, key=lambda block: block.first):
        if block.accepted is None:
            settled.append(block)
            continue
        problems = _repeated(files, block.accepted, contract, seen, current)
        settled.append(_part(files, block, problems, contract, pseudonymiser))
    return Settled(delivery, tuple(settled), current, files)


def _repeated(
    files: StagedFiles,
    path: str,
    contract: Contract,
    seen: Mapping[str, Ids],
    current: Mapping[str, SeenIds],
) -> list[Problem]:
    """Find rows of a block that repeat something, and remember the others in `current`."""
    problems: list[Problem] = []
    hashed = []
    free = np.ones(files.num_rows(path), bool)
    for number, column in enumerate(contract.unique):
        hashes, known = hashes_of(files, path, number), known_in(files, path, column.name)
        before = free & known & seen[column.name].before.contains(hashes)
        again = seen[column.name].added.contains(hashes) | current[column.name].contains(hashes)
        there = free & known & ~before
        again = there & again
        places = np.flatnonzero(there & ~again)
        again[places[repeats(hashes.at(places))]] = True
        problems += [Problem(column, before, BEFORE), Problem(column, again, AGAIN)]
        free &= ~(before | again)
        hashed.append((column.name, hashes, known))
    for name, hashes, known in hashed:
        current[name].add(hashes.at(free & known))
    return problems


def settle_outcomes(
    block: Staged, outcomes: SeenIds, files: StagedFiles, contract: Contract | None = None
) -> Staged:
    """Refuse outcomes whose row and time came in an earlier block, and remember the others.

    They are refused as they were delivered for the contract, by default for a binary one.
    """
    if block.accepted is None:
        return block
    hashes = hashes_of(files, block.accepted)
    again = outcomes.contains(hashes)
    outcomes.add(hashes.at(~again))
    described, row_id = label_columns(contract), LABEL_COLUMNS.by_name[LABEL_COLUMNS.id]
    spell = partial(as_delivered, contract=contract) if contract else _as_is
    return _part(files, block, [Problem(row_id, again, SECOND_OUTCOME)], described, None, spell)


def _as_is(rows: pa.Table) -> pa.Table:
    return rows


def _part(
    files: StagedFiles,
    block: Staged,
    problems: Sequence[Problem],
    contract: Contract,
    pseudonymiser: Pseudonymiser | None,
    spell: Callable[[pa.Table], pa.Table] = _as_is,
) -> Staged:
    """Move the rows that masks mark from a block's accepted file to a file of refused ones."""
    wrong = np.logical_or.reduce([problem.mask for problem in problems])
    if not wrong.any():
        return block
    assert block.accepted is not None
    rows = files.read(block.accepted)
    reasons = Reasons()
    for column, mask, problem in problems:
        cells = rows[column.name].combine_chunks()
        reasons.add(column.name, each(cells, mask, column, problem))
    refused = refuse_rows(spell(rows), reasons, contract, pseudonymiser)
    kept = rows.filter(pa.array(~wrong))
    settled = replace(
        block,
        num_accepted=kept.num_rows,
        num_refused=block.num_refused + refused.num_rows,
        accepted=files.write(kept, f"{block.name}.kept") if kept.num_rows else None,
        refused=(*block.refused, files.write(refused, f"{block.name}.repeated")),
        reasons=merge_reasons([block.reasons, count_reasons(refused)]),
        tally=None,
    )
    for path in {*block.paths} - {*settled.paths}:
        Path(path).unlink()
    return settled

"""Settle a delivery whose blocks are judged: ids that come again are refused, rows are counted.

Everything that is known of a delivery is known here, before anything of it is committed. Knows
staged files and seen ids, one block at a time; knows nothing of Ray, sources or Delta.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from app.contracts.rows import Contract
from app.data.cells import Complaint
from app.data.intake import refuse_rows
from app.data.limits import each
from app.data.seen import SeenIds, repeats
from app.data.staging import Staged, count_reasons, hashes_of, merge_reasons, write
from app.data.validation import LABEL_COLUMNS
from app.security.privacy import Pseudonymiser

BEFORE = "was ingested before"
AGAIN = "is given more than once; the first row is kept"
SECOND_OUTCOME = "has an outcome of that time already; the first is kept"


@dataclass
class Ids:
    """The ids of rows: those that the tables held when an ingest began, and those it has added."""

    before: SeenIds = field(default_factory=SeenIds)
    added: SeenIds = field(default_factory=SeenIds)


@dataclass(frozen=True)
class Settled:
    """All of one delivery that an ingest takes. num_in = num_accepted + num_quarantined."""

    delivery: str
    blocks: tuple[Staged, ...]
    ids: SeenIds

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
        """Rows that came in."""
        return self.num_accepted + self.num_quarantined

    @property
    def reasons(self) -> dict[str, int]:
        """Counts of what the reasons say; a row may have several."""
        return merge_reasons([block.reasons for block in self.blocks])

    def accepted(self) -> Iterator[pa.Table]:
        """Read the rows to be kept, block by block."""
        return (pq.read_table(block.accepted) for block in self.blocks if block.accepted)

    def refused(self) -> Iterator[pa.Table]:
        """Read the rows that were refused, block by block."""
        return (pq.read_table(path) for block in self.blocks for path in block.refused)


def settle_rows(
    delivery: str,
    blocks: Sequence[Staged],
    contract: Contract,
    ids: Ids,
    pseudonymiser: Pseudonymiser,
) -> Settled:
    """Refuse rows whose id came before; of rows with one id the first of the delivery is kept.

    Blocks may come in any order. The ids are not added to those seen: that is for the commit.
    """
    current, settled = SeenIds(), []
    for block in sorted(blocks, key=lambda block: block.first):
        if block.accepted is None:
            settled.append(block)
            continue
        hashes = hashes_of(block.accepted)
        before = ids.before.contains(hashes)
        again = ids.added.contains(hashes) | current.contains(hashes) | repeats(hashes)
        again &= ~before
        current.add(hashes.at(~(before | again)))
        problems = ((before, BEFORE), (again, AGAIN))
        settled.append(_part(block, problems, contract, pseudonymiser))
    return Settled(delivery, tuple(settled), current)


def settle_outcomes(block: Staged, outcomes: SeenIds) -> Staged:
    """Refuse outcomes whose row and time came in an earlier block, and remember the others."""
    if block.accepted is None:
        return block
    hashes = hashes_of(block.accepted)
    again = outcomes.contains(hashes)
    outcomes.add(hashes.at(~again))
    return _part(block, ((again, SECOND_OUTCOME),), LABEL_COLUMNS, None)


def _part(
    block: Staged,
    problems: Sequence[tuple[npt.NDArray[np.bool_], str]],
    contract: Contract,
    pseudonymiser: Pseudonymiser | None,
) -> Staged:
    """Move the rows that masks mark from a block's accepted file to a file of refused ones."""
    wrong = np.logical_or.reduce([mask for mask, _ in problems])
    if not wrong.any():
        return block
    assert block.accepted is not None
    rows = pq.read_table(block.accepted)
    column = contract.by_name[contract.id]
    complaints: list[Complaint] = []
    for mask, problem in problems:
        complaints += each(rows[column.name].combine_chunks(), mask, column, problem)
    refused = refuse_rows(rows, complaints, column.name, contract, pseudonymiser)
    kept = rows.filter(pa.array(~wrong))
    path = Path(block.accepted)
    return replace(
        block,
        num_accepted=kept.num_rows,
        num_refused=block.num_refused + refused.num_rows,
        accepted=write(kept, path.with_suffix(".kept")) if kept.num_rows else None,
        refused=(*block.refused, write(refused, path.with_suffix(".repeated"))),
        reasons=merge_reasons([block.reasons, count_reasons(refused)]),
    )

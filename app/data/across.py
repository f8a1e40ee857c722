"""Find values that come twice in the blocks of one piece, where validation sees a block at a time.

Knows validated blocks and hashes of ids; knows nothing of where rows come from.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.contracts.rows import Contract
from app.data.quarantine import QUARANTINED, WITHHELD
from app.data.repeats import REPEATED
from app.data.seen import SeenIds, hash_unique
from app.data.validation import Validated


class RepeatsAcross:
    """Refuses in a later block of rows what repeats an earlier one of the same piece.

    A block is compared within itself by validation. Nothing is hashed before there is a second one.
    """

    def __init__(self, contract: Contract) -> None:
        """Start before the first block."""
        self._contract = contract
        self._seen = {column.name: SeenIds() for column in contract.unique}
        self._before: pa.Table | None = None

    def refuse(self, block: Validated) -> Validated:
        """Move accepted rows that repeat an earlier block's to the refused ones."""
        names, accepted = list(self._seen), block.accepted
        if self._before is None:
            self._before = accepted.select(names)
            return block
        if self._before.num_rows:
            self._add(self._before, np.ones(self._before.num_rows, bool))
            self._before = self._before.slice(0, 0)
        again = np.zeros(accepted.num_rows, bool)
        reasons: dict[int, list[str]] = {}
        for column in self._contract.unique:
            known = accepted[column.name].is_valid().to_numpy()
            found = self._seen[column.name].contains(hash_unique(accepted, column)) & known
            again |= found
            for place in np.flatnonzero(found).tolist():
                reasons.setdefault(place, []).append(f"{column.name} {REPEATED}")
        self._add(accepted, ~again)
        return block if not reasons else _moved(block, again, reasons)

    def _add(self, rows: pa.Table, kept: npt.NDArray[np.bool_]) -> None:
        for column in self._contract.unique:
            kept_here = kept & rows[column.name].is_valid().to_numpy()
            self._seen[column.name].add(hash_unique(rows, column).at(kept_here))


def _moved(
    block: Validated, again: npt.NDArray[np.bool_], reasons: Mapping[int, list[str]]
) -> Validated:
    """Refuse some accepted rows; their content is told by the row that was kept."""
    refused = pa.table(
        {
            "row": [f'{{"row":"{WITHHELD}"}}'] * len(reasons),
            "reasons": [reasons[place] for place in sorted(reasons)],
            "position": block.positions[again],
        },
        QUARANTINED,
    )
    quarantined = pa.concat_tables([block.quarantined, refused]).sort_by("position")
    return Validated(block.accepted.filter(pa.array(~again)), quarantined, block.positions[~again])

"""Find values that come twice in columns where none may: ids, and other unique columns.

Knows typed Arrow columns and the contract; knows nothing of where rows come from. Of rows that
share a value the first acceptable one is kept, and nulls share nothing.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Column, Contract
from app.data.cells import Complaint
from app.data.distinct import surely_distinct, take_most
from app.data.limits import as_mask, each
from app.data.quarantine import Reasons

REPEATED = "is given more than once; the first row is kept"


def keep_first(
    typed: pa.Table,
    positions: npt.NDArray[np.int64],
    contract: Contract,
    reasons: Reasons,
    seen: Mapping[str, pa.Array],
) -> npt.NDArray[np.int64]:
    """Return those of the acceptable positions that repeat nothing; complain about the others.

    `seen` maps unique columns to values of earlier ingests, in the column's type.
    """
    for column in contract.unique:
        values = take_most(typed.select([column.name]), positions)[column.name].combine_chunks()
        repeated = _repeated(values, column, seen.get(column.name))
        if repeated:
            reasons.add(column.name, [(int(positions[i]), problem) for i, problem in repeated])
            positions = np.delete(positions, [i for i, _ in repeated])
    return positions


def _repeated(values: pa.Array, column: Column, known: pa.Array | None) -> list[Complaint]:
    """Find values that were seen before, or that stand earlier among these."""
    if column.kind == "number":
        values = pc.add(values, 0.0)  # A zero is a zero, whatever its sign.
    complaints: list[Complaint] = []
    free = as_mask(values.is_null())
    if known is not None and len(known):
        known = pc.add(known, 0.0) if column.kind == "number" else known
        seen = as_mask(pc.is_in(values, value_set=known.drop_null()))
        complaints = each(values, seen, column, "was ingested before")
        free |= seen
    if surely_distinct(values):
        return complaints
    codes = pc.dictionary_encode(values).indices.fill_null(-1).to_numpy(zero_copy_only=False)
    _, first = np.unique(codes, return_index=True)
    if len(first) < len(codes):
        again = ~free
        again[first] = False
        complaints += each(values, again, column, REPEATED)
    return complaints

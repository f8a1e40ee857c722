"""Say what a delivered outcome looks like, and turn its label into one that the tables hold.

Knows contracts and Arrow arrays; knows nothing of files, tables or Ray. A binary label is delivered
as 0 or 1, a class by its name, a number or a relevance as a number.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Column, Contract
from app.contracts.targets import Task
from app.data.cells import Cells, cells_of_arrow
from app.data.limits import as_mask
from app.data.quarantine import Reasons
from app.data.spelling import is_flat, texts


@lru_cache(maxsize=64)
def label_columns(contract: Contract | None = None) -> Contract:
    """Describe the outcomes that are delivered for a contract, by default a binary one."""
    label = Column(name="label", kind="number", nullable=True, minimum=0, maximum=1)
    if contract is not None and contract.task != "binary":
        label = _label_column(contract)
    return Contract(
        id="row_id",
        event_time="known_at",
        label="outcome",
        columns=(
            Column(name="row_id", kind="identifier"),
            label,
            Column(name="void", kind="category", categories=("true", "false")),
            Column(name="known_at", kind="time"),
        ),
    )


# Of every task but for the label: whoever looks at that asks `label_columns`.
LABEL_COLUMNS = label_columns()


def label_cells(values: pa.Array, contract: Contract | None) -> Cells:
    """Read delivered labels; a class may also come as a whole number or a truth value."""
    if _task(contract) == "multiclass" and is_flat(values.type):
        values = texts(values)
    return cells_of_arrow(values, label_columns(contract).by_name["label"])


def held_labels(labels: pa.Array, contract: Contract | None) -> pa.Array:
    """Turn labels that were read into the type that the tables hold: a class into its place."""
    if contract is None or contract.task == "binary":
        return labels.cast(pa.int8(), safe=False)
    if contract.task == "multiclass":
        classes = pa.array(contract.classes, pa.string())
        return pc.index_in(labels, value_set=classes).cast(contract.label_type)
    return pc.add(labels, 0.0)  # -0.0 and 0.0 are one number, whatever came first.


def as_delivered(rows: pa.Table, contract: Contract) -> pa.Table:
    """Give outcomes that the tables could hold back the labels that people know: classes' names."""
    if contract.task != "multiclass":
        return rows
    names = pa.array(contract.classes, pa.string())
    place = rows.schema.get_field_index("label")
    return rows.set_column(place, "label", names.take(rows["label"].combine_chunks()))


def judge_together(
    cells: Mapping[str, Cells], reasons: Reasons, contract: Contract | None = None
) -> None:
    """Complain about outcomes that make no sense together, or come again in one table."""
    label, void = cells["label"].array, as_mask(pc.equal(cells["void"].array, "true"))
    there = label.is_valid().to_numpy(zero_copy_only=False)
    fresh = np.ones(len(label), bool)
    fresh[list(reasons.by_row)] = False
    if _task(contract) == "binary":
        halves = as_mask(pc.and_(pc.greater(label, 0), pc.less(label, 1)))
        _mark(reasons, "label", fresh & halves, "must be 0 or 1")
    _mark(reasons, "label", fresh & void & there, "must be null when the outcome is void")
    _mark(reasons, "label", fresh & ~void & ~there, "is needed unless the outcome is void")
    good = np.delete(np.arange(len(label)), list(reasons.by_row))
    keys = {name: cells[name].array.take(pa.array(good)) for name in ("row_id", "known_at")}
    codes = pc.dictionary_encode(keys["row_id"]).indices.to_numpy(zero_copy_only=False)
    moments = keys["known_at"].cast(pa.int64()).to_numpy(zero_copy_only=False)
    _, first = np.unique(np.stack([codes.astype(np.int64), moments]), axis=1, return_index=True)
    again = np.setdiff1d(np.arange(len(good)), first)
    reasons.add(
        "row_id",
        [(int(good[i]), "has an outcome of that time already; the first is kept") for i in again],
    )


def _task(contract: Contract | None) -> Task:
    return "binary" if contract is None else contract.task


def _label_column(contract: Contract) -> Column:
    if contract.task == "multiclass":
        return Column(name="label", kind="category", nullable=True, categories=contract.classes)
    low, high = contract.label_minimum, contract.label_maximum
    if contract.task == "ranking" and low is None:
        low = 0.0  # The least relevant row of a list is not relevant at all.
    return Column(name="label", kind="number", nullable=True, minimum=low, maximum=high)


def _mark(reasons: Reasons, subject: str, wrong: npt.NDArray[np.bool_], problem: str) -> None:
    reasons.add(subject, [(int(i), problem) for i in np.flatnonzero(wrong)])

"""Split rows into accepted ones and quarantined ones with every reason; none is lost.

Knows the contract and Arrow; knows nothing of files, tables, HTTP or Ray. Accepted and quarantined
rows add up to the rows that came in, exactly. Reasons name the column, the limit and the value got;
the values of personal columns are never shown.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Column, Contract
from app.data.cells import Cells, Complaint, cells_of_arrow, cells_of_json
from app.data.labels import KNOWN_LABELS
from app.data.limits import as_mask, each, limits
from app.data.quarantine import RawRows, Reasons, quarantined_rows
from app.security.privacy import Pseudonymiser

REPEATED = "is given more than once; the first row is kept"
UNKNOWN_ROW = "must name an accepted row"
DERIVED = ("prediction_time",)


class SchemaMismatch(ValueError):
    """A whole table whose columns are not those of the contract."""


@dataclass(frozen=True)
class Validated:
    """What became of the rows: `accepted` in the contract's schema, `quarantined` with reasons.

    `positions` gives the place of each accepted row among the rows that came in.
    """

    accepted: pa.Table
    quarantined: pa.Table
    positions: npt.NDArray[np.int64]


def check_columns(names: Collection[str], contract: Contract, place: str = "table") -> None:
    """Raise SchemaMismatch unless the names are those of the contract, in any order."""
    wanted = contract.schema.names
    missing = [name for name in wanted if name not in names]
    unknown = [name for name in names if name not in wanted and name not in DERIVED]
    if not missing and not unknown:
        return
    parts = []
    if missing:
        parts.append(f"no column {', '.join(missing)}")
    if unknown:
        parts.append(f"unknown column {', '.join(unknown)}")
    advice = "was one renamed? Rename it back" if missing and unknown else "mend the table"
    raise SchemaMismatch(f"{place}: {'; '.join(parts)}; {advice}, or change contract.columns")


@dataclass(frozen=True)
class _Batch:
    """Rows read by column, not judged yet; at the positions `broken` there was no row."""

    num_rows: int
    cells: Mapping[str, Cells]
    raw: RawRows
    reasons: Reasons
    broken: frozenset[int] = frozenset()


def validate(
    table: pa.Table,
    contract: Contract,
    seen_ids: Collection[str] | pa.Array | None = None,
    *,
    pseudonymiser: Pseudonymiser | None = None,
) -> Validated:
    """Check a table against the contract, column by column.

    With a pseudonymiser both parts come out protected; without one the accepted rows keep their
    personal values and the quarantined rows withhold them. Among rows of one id the first
    acceptable one is accepted. Raises SchemaMismatch when columns are missing or unknown: then no
    row can be judged.
    """
    check_columns(table.column_names, contract)

    def raw(positions: Sequence[int]) -> list[Mapping[str, object]]:
        rows: list[Mapping[str, object]] = table.take(pa.array(positions, pa.int64())).to_pylist()
        return rows

    cells = {c.name: cells_of_arrow(table[c.name], c) for c in contract.columns}
    return _settle(_Batch(table.num_rows, cells, raw, Reasons()), contract, seen_ids, pseudonymiser)


def validate_rows(
    rows: Sequence[object],
    contract: Contract,
    seen_ids: Collection[str] | pa.Array | None = None,
    *,
    pseudonymiser: Pseudonymiser | None = None,
) -> Validated:
    """Check rows of parsed JSON, strictly; an absent nullable column is null, others are not."""
    reasons, known = Reasons(), contract.by_name.keys()
    objects: list[Mapping[str, object]] = []
    broken: set[int] = set()
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            problem = f"must be an object with the contract's columns, got {type(row).__name__}"
            reasons.add("row", [(position, problem)])
            objects.append({})
            broken.add(position)
            continue
        if not row.keys() <= known:
            unknown = ", ".join(sorted(str(key)[:64] for key in row.keys() - known))
            reasons.add("row", [(position, f"has unknown columns: {unknown}")])
        objects.append(row)

    def raw(positions: Sequence[int]) -> list[Mapping[str, object]]:
        return [{"row": ascii(rows[i])} if i in broken else objects[i] for i in positions]

    cells = {
        c.name: cells_of_json([row.get(c.name) for row in objects], c) for c in contract.columns
    }
    batch = _Batch(len(rows), cells, raw, reasons, frozenset(broken))
    return _settle(batch, contract, seen_ids, pseudonymiser)


def _settle(
    batch: _Batch,
    contract: Contract,
    seen_ids: Collection[str] | pa.Array | None,
    pseudonymiser: Pseudonymiser | None,
) -> Validated:
    """Judge cells that have been read, then ids, and part the rows."""
    reasons, num_rows = batch.reasons, batch.num_rows
    for column in contract.columns:
        cells = batch.cells[column.name]
        reasons.add(column.name, cells.complaints)
        reasons.add(column.name, (c for c in limits(cells, column) if c[0] not in batch.broken))
    arrays = [batch.cells[column.name].array for column in contract.columns]
    typed = pa.Table.from_arrays(arrays, names=contract.schema.names)
    positions = np.arange(num_rows, dtype=np.int64)
    if reasons.by_row:
        positions = np.delete(positions, np.fromiter(reasons.by_row, np.int64))
    ids = typed[contract.id].combine_chunks().take(pa.array(positions))
    repeated = _repeated(ids, contract, seen_ids)
    if repeated:
        reasons.add(contract.id, [(int(positions[i]), problem) for i, problem in repeated])
        positions = np.delete(positions, [i for i, _ in repeated])
    accepted = typed if len(positions) == num_rows else typed.take(pa.array(positions))
    if pseudonymiser is not None:
        accepted = pseudonymiser.protect(accepted, contract)
    quarantined = quarantined_rows(reasons, batch.raw, contract, pseudonymiser)
    assert accepted.num_rows + quarantined.num_rows == num_rows
    return Validated(accepted.cast(contract.schema), quarantined, positions)


def _repeated(
    ids: pa.Array, contract: Contract, seen_ids: Collection[str] | pa.Array | None
) -> list[Complaint]:
    """Find ids that were seen before, or that stand earlier among these acceptable rows."""
    column = contract.by_name[contract.id]
    complaints: list[Complaint] = []
    seen = np.zeros(len(ids), bool)
    if seen_ids is not None and len(seen_ids):
        known = seen_ids if isinstance(seen_ids, pa.Array) else pa.array(seen_ids, pa.string())
        seen = as_mask(pc.is_in(ids, value_set=known))
        complaints = each(ids, seen, column, "was ingested before")
    codes = pc.dictionary_encode(ids).indices.to_numpy(zero_copy_only=False)
    _, first = np.unique(codes, return_index=True)
    if len(first) < len(codes):
        again = ~seen
        again[first] = False
        complaints += each(ids, again, column, REPEATED)
    return complaints


LABEL_COLUMNS = Contract(
    id="row_id",
    event_time="known_at",
    label="outcome",
    columns=(
        Column(name="row_id", kind="identifier"),
        Column(name="label", kind="number", nullable=True, minimum=0, maximum=1),
        Column(name="void", kind="category", categories=("true", "false")),
        Column(name="known_at", kind="time"),
    ),
)


def validate_labels(table: pa.Table, known_ids: pa.Array | None = None) -> Validated:
    """Check outcomes: row_id, label (0, 1 or null), void (boolean), known_at; see KNOWN_LABELS.

    A void outcome has no label, any other has one. Of outcomes that one table gives twice for a row
    and a time, the first is kept, whether the others agree or contradict. With known ids, an
    outcome of any other row is refused. Raises SchemaMismatch when columns are missing or unknown.
    """
    check_columns(table.column_names, LABEL_COLUMNS, "labels")
    reasons, num_rows = Reasons(), table.num_rows
    cells = {}
    for column in LABEL_COLUMNS.columns:
        values = table[column.name].combine_chunks()
        if column.name == "void":
            values = _void_as_text(values)
        cells[column.name] = cells_of_arrow(values, column)
        reasons.add(column.name, cells[column.name].complaints)
        reasons.add(column.name, limits(cells[column.name], column))
    _settle_outcomes(cells, reasons)
    if known_ids is not None:
        ids = cells["row_id"].array
        unknown = ~as_mask(pc.or_(pc.is_in(ids, value_set=known_ids), ids.is_null()))
        reasons.add("row_id", each(ids, unknown, LABEL_COLUMNS.by_name["row_id"], UNKNOWN_ROW))
    positions = np.delete(np.arange(num_rows, dtype=np.int64), list(reasons.by_row))
    accepted = pa.table(
        {
            "row_id": cells["row_id"].array,
            "label": cells["label"].array.cast(pa.int8(), safe=False),
            "void": pc.equal(cells["void"].array, "true"),
            "known_at": cells["known_at"].array,
        }
    ).take(pa.array(positions))

    def raw(refused: Sequence[int]) -> list[Mapping[str, object]]:
        rows: list[Mapping[str, object]] = table.take(pa.array(refused, pa.int64())).to_pylist()
        return rows

    quarantined = quarantined_rows(reasons, raw, LABEL_COLUMNS, None)
    assert accepted.num_rows + quarantined.num_rows == num_rows
    return Validated(accepted.cast(KNOWN_LABELS), quarantined, positions)


def _void_as_text(values: pa.Array) -> pa.Array:
    """Read a flag: a boolean, or its name in a text file."""
    if pa.types.is_boolean(values.type):
        return values.cast(pa.string())
    return pc.utf8_lower(values) if pa.types.is_string(values.type) else values


def _settle_outcomes(cells: Mapping[str, Cells], reasons: Reasons) -> None:
    """Complain about outcomes that make no sense together."""
    label, void = cells["label"].array, as_mask(pc.equal(cells["void"].array, "true"))
    there = label.is_valid().to_numpy(zero_copy_only=False)
    halves = as_mask(pc.and_(pc.greater(label, 0), pc.less(label, 1)))
    fresh = np.ones(len(label), bool)
    fresh[list(reasons.by_row)] = False
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


def _mark(reasons: Reasons, subject: str, wrong: npt.NDArray[np.bool_], problem: str) -> None:
    reasons.add(subject, [(int(i), problem) for i in np.flatnonzero(wrong)])

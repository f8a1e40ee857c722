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

from app.contracts.rows import Contract
from app.data.cells import Cells, cells_of_arrow, cells_of_json
from app.data.delivered_labels import LABEL_COLUMNS as LABEL_COLUMNS
from app.data.delivered_labels import held_labels, judge_together, label_cells, label_columns
from app.data.distinct import take_most
from app.data.labels import known_schema
from app.data.limits import as_mask, each, limits, within
from app.data.quarantine import WITHHELD, RawRows, Reasons, quarantined_rows
from app.data.repeats import keep_first
from app.data.rules import add_broken_rules
from app.data.schemas import cast_rows
from app.security.privacy import Pseudonymiser

FORBIDDEN = "is forbidden and must not be sent; leave it out"
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
    """Raise SchemaMismatch unless the names are those of the contract, in any order.

    A forbidden column may be there: whoever reads the table drops it at once.
    """
    wanted = contract.schema.names
    missing = [name for name in wanted if name not in names]
    spared = {*wanted, *DERIVED, *contract.forbidden_names}
    unknown = [name for name in names if name not in spared]
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
    dictionaries: bool = False,
) -> Validated:
    """Check a table against the contract, column by column.

    With a pseudonymiser both parts come out protected; without one the accepted rows keep their
    personal values and the quarantined rows withhold them. Among rows of one id the first
    acceptable one is accepted. With `dictionaries` a category that comes dictionary-encoded stays
    so, which spares a text a row to whoever only encodes or counts it. Raises SchemaMismatch when
    columns are missing or unknown: then no row can be judged.
    A forbidden column is dropped before anything looks at it.
    """
    check_columns(table.column_names, contract)
    if contract.forbidden:
        table = table.select([n for n in table.column_names if n not in contract.forbidden_names])

    def raw(positions: Sequence[int]) -> list[Mapping[str, object]]:
        rows: list[Mapping[str, object]] = table.take(pa.array(positions, pa.int64())).to_pylist()
        return rows

    cells = {
        c.name: cells_of_arrow(table[c.name], c, dictionaries=dictionaries)
        for c in contract.columns
    }
    return _settle(_Batch(table.num_rows, cells, raw, Reasons()), contract, seen_ids, pseudonymiser)


def validate_rows(
    rows: Sequence[object],
    contract: Contract,
    seen_ids: Collection[str] | pa.Array | None = None,
    *,
    pseudonymiser: Pseudonymiser | None = None,
) -> Validated:
    """Check rows of parsed JSON, strictly; an absent nullable column is null, others are not.

    A row that has a forbidden column is quarantined without its value.
    """
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
            _complain_of_others(row.keys() - known, position, contract, reasons)
        objects.append(row)

    def told(position: int) -> str:
        return WITHHELD if contract.guarded else ascii(rows[position])

    def raw(positions: Sequence[int]) -> list[Mapping[str, object]]:
        return [{"row": told(i)} if i in broken else objects[i] for i in positions]

    cells = {
        c.name: cells_of_json([row.get(c.name) for row in objects], c) for c in contract.columns
    }
    batch = _Batch(len(rows), cells, raw, reasons, frozenset(broken))
    return _settle(batch, contract, seen_ids, pseudonymiser)


def _complain_of_others(
    names: Collection[str], position: int, contract: Contract, reasons: Reasons
) -> None:
    """Complain about columns that a row has and must not have."""
    for name in sorted(contract.forbidden_names.intersection(names)):
        reasons.add(name, [(position, FORBIDDEN)])
    unknown = sorted(str(name)[:64] for name in names if name not in contract.forbidden_names)
    if unknown:
        reasons.add("row", [(position, f"has unknown columns: {', '.join(unknown)}")])


def _settle(
    batch: _Batch,
    contract: Contract,
    seen_ids: Collection[str] | pa.Array | None,
    pseudonymiser: Pseudonymiser | None,
) -> Validated:
    """Judge cells that have been read, then rules, then ids, and part the rows."""
    reasons, num_rows = batch.reasons, batch.num_rows
    quiet = within(batch.cells, contract.columns)
    for column in contract.columns:
        cells = batch.cells[column.name]
        reasons.add(column.name, cells.complaints)
        if column.name in quiet:
            continue
        reasons.add(column.name, (c for c in limits(cells, column) if c[0] not in batch.broken))
    arrays = [batch.cells[column.name].array for column in contract.columns]
    typed = pa.Table.from_arrays(arrays, names=contract.schema.names)
    add_broken_rules(typed, contract, reasons, batch.broken)
    positions = np.arange(num_rows, dtype=np.int64)
    if reasons.by_row:
        positions = np.delete(positions, np.fromiter(reasons.by_row, np.int64))
    seen = {} if seen_ids is None else {contract.id: _as_array(seen_ids)}
    positions = keep_first(typed, positions, contract, reasons, seen)
    accepted = take_most(typed, positions)
    if pseudonymiser is not None:
        accepted = pseudonymiser.protect(accepted, contract)
    quarantined = quarantined_rows(reasons, batch.raw, contract, pseudonymiser)
    assert accepted.num_rows + quarantined.num_rows == num_rows
    return Validated(cast_rows(accepted, _kept(accepted, contract)), quarantined, positions)


def _kept(accepted: pa.Table, contract: Contract) -> pa.Schema:
    """Return the contract's schema, but for the dictionaries that were asked for."""
    return pa.schema(
        [
            field.with_type(kind) if pa.types.is_dictionary(kind) else field
            for field, kind in zip(contract.schema, accepted.schema.types, strict=True)
        ]
    )


def _as_array(ids: Collection[str] | pa.Array) -> pa.Array:
    return ids if isinstance(ids, pa.Array) else pa.array(ids, pa.string())


def validate_labels(
    table: pa.Table, known_ids: pa.Array | None = None, contract: Contract | None = None
) -> Validated:
    """Check outcomes: row_id, label or null, void (boolean), known_at; see labels.known_schema.

    A label is what the contract's task asks for, by default 0 or 1; see label_columns. A void
    outcome has no label, any other has one. Of outcomes that one table gives twice for a row
    and a time, the first is kept, whether the others agree or contradict. With known ids, an
    outcome of any other row is refused. Raises SchemaMismatch when columns are missing or unknown.
    """
    described = label_columns(contract)
    check_columns(table.column_names, described, "labels")
    reasons, num_rows = Reasons(), table.num_rows
    cells = {}
    for column in described.columns:
        values = table[column.name].combine_chunks()
        if column.name == "label":
            cells[column.name] = label_cells(values, contract)
        else:
            values = _void_as_text(values) if column.name == "void" else values
            cells[column.name] = cells_of_arrow(values, column)
        reasons.add(column.name, cells[column.name].complaints)
        reasons.add(column.name, limits(cells[column.name], column))
    judge_together(cells, reasons, contract)
    if known_ids is not None:
        ids = cells["row_id"].array
        unknown = ~as_mask(pc.or_(pc.is_in(ids, value_set=known_ids), ids.is_null()))
        reasons.add("row_id", each(ids, unknown, described.by_name["row_id"], UNKNOWN_ROW))
    positions = np.delete(np.arange(num_rows, dtype=np.int64), list(reasons.by_row))
    accepted = pa.table(
        {
            "row_id": cells["row_id"].array,
            "label": held_labels(cells["label"].array, contract),
            "void": pc.equal(cells["void"].array, "true"),
            "known_at": cells["known_at"].array,
        }
    ).take(pa.array(positions))

    def raw(refused: Sequence[int]) -> list[Mapping[str, object]]:
        rows: list[Mapping[str, object]] = table.take(pa.array(refused, pa.int64())).to_pylist()
        return rows

    quarantined = quarantined_rows(reasons, raw, described, None)
    assert accepted.num_rows + quarantined.num_rows == num_rows
    return Validated(accepted.cast(known_schema(accepted["label"].type)), quarantined, positions)


def _void_as_text(values: pa.Array) -> pa.Array:
    """Read a flag: a boolean, or its name in a text file."""
    if pa.types.is_boolean(values.type):
        return values.cast(pa.string())
    return pc.utf8_lower(values) if pa.types.is_string(values.type) else values

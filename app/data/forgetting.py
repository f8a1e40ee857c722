"""Tell which rows are about erased subjects, and refuse such rows when they come again.

Knows the tables' columns, the contract and tombstones; knows nothing of files, Delta or who asks.
A row is about a subject when its entity, or a personal column, is that subject; an outcome or a
prediction also when its row was erased. A refused row is counted and its content is not kept.
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Contract
from app.data.intake import TIME, Judged
from app.data.pieces import DELIVERY, POSITION
from app.data.quarantine import WITHHELD
from app.data.schemas import ARRIVAL, TableName
from app.data.tables import Tables
from app.data.validation import Validated
from app.security.tombstones import Tombstones

ERASED = "row is about a subject whose data was erased; its content is withheld"
WITHHELD_ROW = f'{{"row":"{WITHHELD}"}}'
ROW_ID = "row_id"
# Tables of what was said of rows: they go with their events.
ANSWERS: tuple[TableName, ...] = ("predictions", "shadows")
NO_POSITION = -1
WORDS = re.compile(r"[^\s\"',;(){}\[\]]+")
# A shorter word outside of the columns that name subjects may be anything: 17 is also a weight.
MIN_WORD = 6
CACHED_TEXTS = 2**16
# What stays of a refused row: where it came from, and when.
PLACES = ("position", "source", "ingested_at", DELIVERY, TIME)

Mask = npt.NDArray[np.bool_]


def identity_columns(contract: Contract) -> tuple[str, ...]:
    """Name the columns whose value is a subject: the entity and all personal ones."""
    entity = (contract.entity,) if contract.entity else ()
    return tuple(dict.fromkeys((*entity, *contract.personal)))


def about_erased(name: TableName, rows: pa.Table, contract: Contract, erased: Tombstones) -> Mask:
    """Tell which rows of a table are about erased subjects or were erased, booleans [rows]."""
    if name == "events":
        return events_erased(rows, contract, erased)
    if name in ANSWERS:
        return erased.subjects_in(rows["entity"]) | erased.rows_in(rows[ROW_ID])
    if name == "labels":
        return erased.rows_in(rows[ROW_ID])
    return QuarantineReader(contract, erased).erased(rows)


def events_erased(rows: pa.Table, contract: Contract, erased: Tombstones) -> Mask:
    """Tell which rows with the contract's columns, protected, name an erased subject."""
    found = np.zeros(rows.num_rows, bool)
    for column in identity_columns(contract):
        found |= erased.subjects_in(rows[column])
    return found


class QuarantineReader:
    """Reads rows as they were refused: JSON text whose values may stand in the wrong columns."""

    def __init__(self, contract: Contract, erased: Tombstones) -> None:
        self._ids = (contract.id, ROW_ID)
        self._identities = frozenset(identity_columns(contract))
        self._erased = erased
        # The same categories and words come again and again.
        self._is_subject = lru_cache(CACHED_TEXTS)(erased.is_subject)

    def erased(self, rows: pa.Table) -> Mask:
        """Tell which quarantined rows name an erased subject or an erased row, booleans [rows]."""
        if not self._erased:
            return np.zeros(rows.num_rows, bool)
        contents = zip(rows["row"].to_pylist(), rows["reasons"].to_pylist(), strict=True)
        return np.fromiter(
            (self._is_erased(row, reasons or []) for row, reasons in contents), bool, rows.num_rows
        )

    def row_id(self, row: str) -> str | None:
        """Give the id that a refused row had, None when it had none that can be read."""
        cells = _cells(row)
        found = (cells[name] for name in self._ids if name in cells)
        return next((text for text in found if isinstance(text, str) and text != WITHHELD), None)

    def _is_erased(self, row: str, reasons: list[str]) -> bool:
        cells = _cells(row)
        if any(self._erased.is_row(str(cells[name])) for name in self._ids if name in cells):
            return True
        named = (cells[name] for name in self._identities & cells.keys())
        if any(self._is_subject(str(value)) for value in named if value is not None):
            return True
        others = [value for value in cells.values() if isinstance(value, str)]
        return any(map(self._is_mentioned, (*others, *reasons)))

    def _is_mentioned(self, text: str) -> bool:
        """Tell whether a text is a subject, or has one among its words."""
        words = {text, *WORDS.findall(text)} if text != WITHHELD else set()
        return any(self._is_subject(word) for word in words if len(word) >= MIN_WORD)


def refuse_erased(judged: Judged, contract: Contract, erased: Tombstones) -> Judged:
    """Refuse judged rows about erased subjects; their places stay.

    Rows that were refused already lose their content and their reasons: both may name a subject.
    """
    if not erased:
        return judged
    accepted = judged.accepted
    found = events_erased(accepted, contract, erased) | erased.rows_in(accepted[contract.id])
    dropped = accepted.filter(pa.array(found))
    places = dropped.select([POSITION, DELIVERY, TIME]).rename_columns({POSITION: "position"})
    refused = withhold_erased(judged.refused, contract, erased)
    refused = pa.concat_tables([refused, _withheld(places, refused.schema)])
    return Judged(accepted.filter(pa.array(~found)), refused)


def refuse_checked(checked: Validated, contract: Contract, erased: Tombstones) -> Validated:
    """Refuse validated, protected rows about erased subjects; what was refused loses its content.

    Quarantined rows come out in the order in which the rows came in.
    """
    if not erased:
        return checked
    accepted, places = checked.accepted, checked.positions
    found = events_erased(accepted, contract, erased) | erased.rows_in(accepted[contract.id])
    dropped = accepted.filter(pa.array(found)).append_column("position", pa.array(places[found]))
    quarantined = withhold_erased(checked.quarantined, contract, erased)
    quarantined = pa.concat_tables([quarantined, _withheld(dropped, quarantined.schema)])
    return Validated(
        accepted.filter(pa.array(~found)), quarantined.sort_by("position"), places[~found]
    )


def withhold_erased(quarantined: pa.Table, contract: Contract, erased: Tombstones) -> pa.Table:
    """Withhold the content of quarantined rows that name an erased subject or row."""
    return _blanked(quarantined, QuarantineReader(contract, erased).erased(quarantined))


class Captured(NamedTuple):
    """Captured rows by table, without those about erased subjects, and the ids of rows dropped."""

    tables: dict[str, pa.Table]
    dropped: frozenset[str]


def forget_captured(
    captured: Mapping[str, pa.Table], schema: pa.Schema, contract: Contract, erased: Tombstones
) -> Captured:
    """Forget captured rows about subjects that were erased before the rows could be shipped.

    Takes rows by table; `schema` is that of the quarantine. What is dropped of events and labels is
    counted there, one withheld row each, so that no row is lost; a prediction goes with its event.
    """
    if not erased:
        return Captured(dict(captured), frozenset())
    dropped = captured_ids(captured, contract, erased)
    erased = erased.with_rows(dropped)
    left: dict[str, pa.Table] = {}
    refused = []
    for name, rows in captured.items():
        table: TableName = name  # type: ignore[assignment]  # A spool has the names of tables.
        found = about_erased(table, rows, contract, erased)
        left[name] = rows.filter(pa.array(~found))
        if name not in ANSWERS:
            gone = rows.filter(pa.array(found)).rename_columns({ARRIVAL[table]: "ingested_at"})
            refused.append(_withheld(gone, schema))
    if counted := [rows for rows in refused if rows.num_rows]:
        there = left.get("quarantine", schema.empty_table())
        left["quarantine"] = pa.concat_tables([there.cast(schema), *counted])
    whole = {name: rows for name, rows in left.items() if rows.num_rows}
    return Captured(whole, dropped)


def captured_ids(
    captured: Mapping[str, pa.Table], contract: Contract, erased: Tombstones
) -> frozenset[str]:
    """Give the ids of captured rows that are about erased subjects."""
    ids = set[str]()
    if "events" in captured:
        found = pa.array(events_erased(captured["events"], contract, erased))
        ids.update(captured["events"][contract.id].filter(found).to_pylist())
    for rows in (captured[name] for name in ANSWERS if name in captured):
        found = pa.array(erased.subjects_in(rows["entity"]))
        ids.update(rows[ROW_ID].filter(found).to_pylist())
    return frozenset(ids)


def ids_of_others(tables: Tables, erased: Tombstones, ids: Collection[str]) -> frozenset[str]:
    """Give those of some row ids that rows about others have: such an id is not the subject's."""
    contract = tables.contract
    columns = [contract.id, *identity_columns(contract)]
    same = pc.field(contract.id).isin(pa.array(sorted(ids), pa.string()))
    rows = tables.read("events", columns=list(dict.fromkeys(columns)), filters=same)
    others = rows.filter(pa.array(~events_erased(rows, contract, erased)))
    return frozenset(others[contract.id].to_pylist())


def _blanked(rows: pa.Table, found: Mask) -> pa.Table:
    if not found.any():
        return rows
    blank = _withheld(rows.filter(pa.array(found)), rows.schema)
    return pa.concat_tables([rows.filter(pa.array(~found)), blank])


def _withheld(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Render rows as refused ones of which their places and the reason are left."""
    size = rows.num_rows
    fixed = {
        "row": pa.array([WITHHELD_ROW] * size, pa.string()),
        "reasons": pa.array([[ERASED]] * size, pa.list_(pa.string())),
        "position": pa.array([NO_POSITION] * size, pa.int64()),
    }
    arrays = []
    for field in schema:
        if field.name in PLACES and field.name in rows.column_names:
            arrays.append(rows[field.name].cast(field.type))
        else:
            arrays.append(fixed.get(field.name, pa.nulls(size, field.type)))
    return pa.Table.from_arrays(arrays, schema=schema)


def _cells(row: str) -> dict[str, object]:
    try:
        content = orjson.loads(row)
    except orjson.JSONDecodeError:
        return {"row": row}
    return content if isinstance(content, dict) else {"row": row}

"""Say what columns each table of a model has, and which of them are private.

Knows the contract and Arrow types; knows nothing of Delta, files or where rows come from.
"""

from collections.abc import Iterable
from typing import Literal

import pyarrow as pa

from app.contracts.rows import TIMESTAMP, Contract

TableName = Literal["events", "quarantine", "predictions", "labels", "shadows"]
NAMES: tuple[TableName, ...] = ("events", "quarantine", "predictions", "labels", "shadows")
ARRIVAL: dict[TableName, str] = {
    "events": "ingested_at",
    "quarantine": "ingested_at",
    "predictions": "served_at",
    "labels": "received_at",
    "shadows": "served_at",
}


def table_schemas(contract: Contract) -> dict[TableName, pa.Schema]:
    """Build the Arrow schema of every table."""
    fields, text, real, moment = _fields, pa.string(), pa.float64(), TIMESTAMP
    arrival = fields(("source", text), ("ingested_at", moment))
    about = [
        *fields(("prediction_id", text), ("idempotency_key", text), ("row_id", text)),
        *fields(("entity", text), nullable=True),
    ]
    by = fields(("version", text), ("generation", pa.int64()))
    made = fields(("prediction_time", moment), ("served_at", moment), ("replica", text))
    return {
        "events": pa.schema(
            [*contract.complete_schema, *fields(("prediction_time", moment)), *arrival]
        ),
        "quarantine": pa.schema(
            [
                *fields(("row", text), ("reasons", pa.list_(text)), ("position", pa.int64())),
                *arrival,
            ]
        ),
        "predictions": pa.schema(
            [
                *about,
                *by,
                *fields(("arm", text), ("propensity", real), ("probability", real)),
                *made,
            ]
        ),
        "labels": pa.schema(
            [
                *fields(("row_id", text)),
                *fields(("label", contract.label_type), nullable=True),
                *fields(("void", pa.bool_()), ("known_at", moment), ("received_at", moment)),
                *fields(("source", text)),
            ]
        ),
        # What a shadow version says of rows that others have answered; nobody was told.
        "shadows": pa.schema([*about, *by, *fields(("probability", real)), *made]),
    }


def _fields(*given: tuple[str, pa.DataType], nullable: bool = False) -> list[pa.Field]:
    return [pa.field(name, kind, nullable=nullable) for name, kind in given]


def window_columns(contract: Contract) -> dict[TableName, tuple[str, ...]]:
    """Name, by table, the columns that older files and tables lack: a window is declared later."""
    names: dict[TableName, tuple[str, ...]] = dict.fromkeys(NAMES, ())
    return names | {"events": tuple(column.name for column in contract.derived)}


def private_columns(contract: Contract) -> dict[TableName, tuple[str, ...]]:
    """Name, by table, the columns that hold or quote personal and quasi values.

    Those of the contract by their class, windows too; what stands for the row's id, entity or time
    elsewhere; and always the refused rows and the reasons, which quote values of any column.
    """
    columns = (*contract.columns, *contract.derived)
    private = {c.name for c in columns if c.privacy != "public"}

    def where(role: str | None, *names: str) -> tuple[str, ...]:
        return names if role in private else ()

    times = where(contract.event_time, "prediction_time")
    # A client may take the row's id as the key of its request.
    ids = where(contract.id, "row_id", "idempotency_key")
    answers = (*ids, *where(contract.entity, "entity"), *times)
    return {
        "events": (*(c.name for c in columns if c.name in private), *times),
        "quarantine": ("row", "reasons"),
        "predictions": answers,
        "labels": where(contract.id, "row_id"),
        "shadows": answers,
    }


def with_nulls(rows: pa.Table, schema: pa.Schema, names: Iterable[str]) -> pa.Table:
    """Append the columns of these names that rows lack, without values."""
    for name in names:
        if name in schema.names and name not in rows.column_names:
            field = schema.field(name)
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows


def cast_rows(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring rows to a schema; Delta names list items and string types in its own way.

    Raises ValueError when a value does not fit.
    """
    if rows.schema.equals(schema):
        return rows
    if rows.column_names != schema.names:
        raise ValueError(f"rows do not fit the table: {rows.column_names}, it has {schema.names}")
    columns = []
    for column, field in zip(rows.columns, schema, strict=True):
        # Most columns are of their type already, and casting one to what it is takes its time too.
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except pa.ArrowInvalid as error:
                raise ValueError(f"rows do not fit the table: {error}") from error
        if column.null_count and not field.nullable:
            raise ValueError(f"rows do not fit the table: {field.name} has nulls and may have none")
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def refuse_other_numbers(held: pa.Schema, wanted: pa.Schema, place: object) -> None:
    """Raise ValueError where numbers are held as another type than the contract asks for.

    So it is when contract.task was changed: what was a place among classes is no amount.
    """
    for field in wanted:
        found = held.field(field.name).type if field.name in held.names else field.type
        if _is_number(found) and _is_number(field.type) and found != field.type:
            raise ValueError(
                f"{place}: {field.name} is held as {found}, the contract asks for {field.type}; "
                "set contract.task back, or bring the rows into another workspace"
            )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))

"""Write rows as a client of the Open Inference Protocol does: JSON, binary tensors behind it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from app.contracts.rows import Contract
from app.serving.tensors import LENGTH


def tensors_of(
    contract: Contract, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], bytes]:
    """Give a tensor for each column as the JSON names it, and the bytes of all of them."""
    tensors, tails = [], []
    for column in contract.columns:
        values = [row[column.name] for row in rows]
        is_number = column.kind == "number"
        tails.append(numbers(values) if is_number else texts(values))
        tensors.append(
            {
                "name": column.name,
                "shape": [len(rows)],
                "datatype": "FP64" if is_number else "BYTES",
                "parameters": {"binary_data_size": len(tails[-1])},
            }
        )
    return tensors, b"".join(tails)


def numbers(values: Sequence[float | None]) -> bytes:
    """Write numbers as FP64; NaN is nothing."""
    return pa.array(values, pa.float64()).fill_null(float("nan")).to_numpy().tobytes()


def texts(values: Sequence[str | None]) -> bytes:
    """Write texts as BYTES; an empty one is nothing."""
    encoded = [(value or "").encode() for value in values]
    return b"".join(LENGTH.pack(len(text)) + text for text in encoded)

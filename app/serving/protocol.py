"""Speak the Open Inference Protocol, version 2: a body to columns, predictions to a body.

A tensor is a column of the contract, of shape [rows] or [rows, 1]: FP64 for numbers (other widths
are widened), BYTES for texts, and for times in ISO 8601. A value that is not known is null in JSON
and NaN in binary numbers; an empty text is a text unless the parameter `empty_is_null` says
otherwise. Tensors may follow the JSON in binary (the binary tensor data extension). Strict: what a
body claims must be so to the byte. Knows bytes, JSON and the contract; knows nothing of HTTP,
models or where columns go. Raises Refused: 400, or 413 for too many rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from app.contracts.records import Roles
from app.contracts.rows import Column, Contract
from app.serving.arrivingcolumns import check_keys, refuse_unknown
from app.serving.infer_messages import (
    ALL_BINARY,
    BINARY,
    BINARY_SIZE,
    EMPTY_IS_NULL,
    KEYS,
    NOT_OFFERED,
    OUTPUTS,
    InferRequest,
    InputTensor,
    Parameters,
)
from app.serving.messages import Refused, explain
from app.serving.tensors import (
    NUMBER,
    NUMBERS,
    TEXT,
    binary_of,
    numbers_of_binary,
    numbers_of_json,
    texts_of_binary,
    texts_of_json,
)


class Asked(NamedTuple):
    """A request as it was read: its columns, and how its answer is to be written."""

    id: str | None
    table: pa.Table
    keys: list[str] | None
    outputs: dict[str, bool]
    """Names of the tensors asked for, and whether each is sent in binary."""


def read_infer(
    body: bytes, header_length: str | None, contract: Contract, model: str, max_rows: int
) -> Asked:
    """Read a request for predictions; `header_length` says where its JSON ends.

    The table has the columns that were sent: numbers float64, all others text.
    """
    document, rest = _divide(body, header_length)
    request = _parse(document)
    if request.model_name not in (None, model):
        raise Refused(400, "model_name", _cut(str(request.model_name)), f"send {model}, or none")
    refuse_unknown([tensor.name for tensor in request.inputs], contract, "inputs")
    num_rows = _num_rows(request.inputs, max_rows)
    contents = _contents(request.inputs, rest, header_length is not None)
    emptied = _flag(request.parameters, EMPTY_IS_NULL, "parameters")
    columns = {
        tensor.name: _column(tensor, content, contract.by_name[tensor.name], num_rows, emptied)
        for tensor, content in zip(request.inputs, contents, strict=True)
    }
    keys = request.parameters.get(KEYS)
    if keys is not None and not isinstance(keys, list):
        raise Refused(400, f"parameters.{KEYS}", "no list", "send one key a row, or none")
    return Asked(
        id=request.id or None,
        table=pa.table(columns),
        keys=None if keys is None else check_keys(keys, num_rows),
        outputs=_outputs(request),
    )


def write_infer(
    asked: Asked,
    model: str,
    roles: Roles,
    predictions: pa.Table,
    said: Mapping[str, bool] | None = None,
) -> tuple[bytes, int | None]:
    """Write an answer; the number is the length of its JSON where tensors follow it in binary.

    `said` is what its parameters say beside the generation.
    """
    tails: list[bytes] = []
    outputs = []
    for name, binary in asked.outputs.items():
        values = predictions[name].combine_chunks()
        output: dict[str, Any] = {
            "name": name,
            "datatype": OUTPUTS[name],
            "shape": [len(values)],
        }
        if binary:
            tails.append(binary_of(values))
            output["parameters"] = {BINARY_SIZE: len(tails[-1])}
        else:
            output["data"] = values.to_pylist()
        outputs.append(output)
    answer = {
        "model_name": model,
        "model_version": roles.champion,
        **({"id": asked.id} if asked.id is not None else {}),
        "parameters": {"generation": roles.generation, **(said or {})},
        "outputs": outputs,
    }
    content = orjson.dumps(answer)
    return b"".join([content, *tails]), len(content) if tails else None


def _divide(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """Divide a body into its JSON and the tensors behind it."""
    if header_length is None:
        return body, memoryview(b"")
    where, plain = "inference-header-content-length", header_length.strip()
    # isdigit alone takes digits of every script.
    if not (plain.isascii() and plain.isdigit() and len(plain) < 12):
        raise Refused(400, where, _cut(plain), "send the length of the JSON in bytes")
    length = int(plain)
    if length > len(body):
        raise Refused(400, where, f"{length} of {len(body)} bytes", "send a length within the body")
    return body[:length], memoryview(body)[length:]


def _parse(document: bytes) -> InferRequest:
    try:
        content = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        got = f"no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        change = "send one JSON object, with null for NaN, and say where it ends if tensors follow"
        raise Refused(400, "body", got, change) from None
    try:
        return InferRequest.model_validate(content)
    except ValidationError as error:
        raise Refused(400, "body", explain(error), "compare with /openapi.json") from None


def _num_rows(tensors: Sequence[InputTensor], max_rows: int) -> int:
    """Give the number of rows, on which all shapes must agree."""
    for tensor in tensors:
        if tensor.shape[0] < 1 or tensor.shape[1:] not in ([], [1]):
            got = f"shape {tensor.shape}"
            raise Refused(400, _place(tensor), got, "send [rows] or [rows, 1], rows from 1")
        if tensor.shape[0] != tensors[0].shape[0]:
            got = f"{tensor.shape[0]} rows, {tensors[0].name} has {tensors[0].shape[0]}"
            raise Refused(400, _place(tensor), got, "send as many values in every tensor")
    num_rows = tensors[0].shape[0]
    if num_rows > max_rows:
        got = f"{num_rows}, more than {max_rows}"
        raise Refused(413, "rows", got, "send several smaller requests")
    return num_rows


def _contents(
    tensors: Sequence[InputTensor], rest: memoryview, divided: bool
) -> list[memoryview | None]:
    """Give each tensor the bytes that are its own behind the JSON, None where it has data."""
    contents: list[memoryview | None] = []
    place = 0
    for tensor in tensors:
        where, size = _place(tensor), tensor.parameters.get(BINARY_SIZE)
        for name in NOT_OFFERED:
            if name in tensor.parameters:
                raise Refused(400, where, f"{name} is not offered", "send the values themselves")
        if (size is None) == (tensor.data is None):
            got = "both data and binary_data_size" if size is not None else "no data"
            raise Refused(400, where, got, "send data, or binary_data_size and bytes")
        if size is None:
            contents.append(None)
            continue
        if type(size) is not int or size < 0 or not divided:
            got = f"binary_data_size {_cut(str(size))}" if divided else "binary data"
            change = "send a size in bytes, and the header Inference-Header-Content-Length"
            raise Refused(400, where, got, change)
        if size > len(rest) - place:
            got = f"{size} bytes, where {len(rest) - place} are left"
            raise Refused(400, where, got, "send as many bytes as are claimed")
        contents.append(rest[place : place + size])
        place += size
    if place != len(rest):
        got = f"{len(rest) - place} bytes that no tensor claims"
        raise Refused(400, "body", got, "send as many bytes as are claimed")
    return contents


def _column(
    tensor: InputTensor, content: memoryview | None, column: Column, num_rows: int, emptied: bool
) -> pa.Array:
    """Read a tensor as its column: float64 or text."""
    where, number = _place(tensor), column.kind == "number"
    if tensor.datatype != TEXT if not number else tensor.datatype not in NUMBERS:
        wanted = f"{NUMBER} or another number" if number else TEXT
        got = f"datatype {_cut(tensor.datatype)} for a column of kind {column.kind}"
        raise Refused(400, where, got, f"send {wanted}")
    emptied = _flag(tensor.parameters, EMPTY_IS_NULL, where, emptied)
    if content is None:
        data = _flat(tensor, num_rows)
        if number:
            return numbers_of_json(data, tensor.datatype, where)
        values = texts_of_json(data, where)
    elif number:
        return numbers_of_binary(content, tensor.datatype, num_rows, where)
    else:
        values = texts_of_binary(content, num_rows, where)
    if emptied:
        values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
    return values


def _flat(tensor: InputTensor, num_rows: int) -> list[object]:
    """Give the values of a tensor, which for [rows, 1] may stand in lists of one."""
    data = tensor.data
    if not isinstance(data, list) or len(data) != num_rows:
        got = f"{len(data)} values" if isinstance(data, list) else "no list"
        raise Refused(400, _place(tensor), got, f"send {num_rows} values, as the shape says")
    if len(tensor.shape) == 2 and isinstance(data[0], list):
        if not all(isinstance(value, list) and len(value) == 1 for value in data):
            raise Refused(400, _place(tensor), "uneven lists", "send one value in each list")
        return [value[0] for value in data]
    return data


def _outputs(request: InferRequest) -> dict[str, bool]:
    """Say which tensors are asked for, and which of them in binary."""
    everything = _flag(request.parameters, ALL_BINARY, "parameters")
    if not request.outputs:
        return dict.fromkeys(OUTPUTS, everything)
    asked: dict[str, bool] = {}
    for output in request.outputs:
        where = f"outputs.{_cut(output.name)}"
        if output.name not in OUTPUTS or output.name in asked:
            got = "asked for twice" if output.name in asked else "no such output"
            raise Refused(400, where, got, f"ask for {', '.join(OUTPUTS)}, each once")
        for name in NOT_OFFERED:
            if name in output.parameters:
                raise Refused(400, where, f"{name} is not offered", "ask without it")
        asked[output.name] = _flag(output.parameters, BINARY, where, everything)
    return asked


def _flag(parameters: Parameters, name: str, where: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise Refused(400, f"{where}.{name}", type(value).__name__, "send true or false")
    return value


def _place(tensor: InputTensor) -> str:
    return f"inputs.{_cut(tensor.name)}"


def _cut(text: str) -> str:
    """Cut a text of a client to a length that can be read.

    >>> _cut("a" * 100) == "a" * 64
    True
    """
    return text[:64].encode("ascii", "backslashreplace").decode()

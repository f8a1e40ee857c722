"""Describe what the Open Inference Protocol sends over HTTP: requests, answers, metadata, errors.

Knows the contract, JSON and the protocol's words; knows nothing of bytes or of how an answer comes
about.
"""

from typing import Any

from pydantic import Field

from app.contracts.rows import Column, Contract
from app.serving.messages import Refused, Strict, column_schema
from app.serving.tensors import NUMBER, NUMBERS, TEXT

# What is answered: the name of each tensor and its datatype.
OUTPUTS = {"probability": NUMBER, "prediction_id": TEXT, "row_id": TEXT, "version": TEXT}
BINARY_SIZE, BINARY, ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"
EMPTY_IS_NULL, KEYS = "empty_is_null", "idempotency_keys"
NUM_SHOWN = 20
# Of a longer list pydantic would collect the faults of every item.
MAX_TENSORS = 1000

# Parameters of extensions that would change what a tensor is; any other unknown one is ignored.
NOT_OFFERED = ("shared_memory_region", "classification")
REFUSED = dict.fromkeys(NOT_OFFERED, False)
# There is no text for a number of FP16.
JSON_NUMBERS = [name for name in NUMBERS if name != "FP16"]
DATA = (
    "The values: as many as the shape says, for [rows, 1] perhaps in lists of one, within the "
    "limits of the columns, see the rows of /v1/{model}/predict. Tensors that are sent in binary "
    "say binary_data_size instead, in a body of application/octet-stream."
)

Parameters = dict[str, Any]


class InputTensor(Strict):
    """One column of the rows to score."""

    name: str = Field(description="A column of the model.")
    shape: list[int] = Field(min_length=1, max_length=2, description="[rows] or [rows, 1].")
    datatype: str = Field(description="FP64 or another number; BYTES for texts and times.")
    parameters: Parameters = Field(
        {},
        description="binary_data_size: how many bytes behind the JSON are this tensor's. "
        "empty_is_null: an empty text of this tensor is a null.",
    )
    data: Any = Field(None, description="The values, where they are not sent in binary.")


class OutputAsked(Strict):
    """One tensor that is asked for."""

    name: str
    parameters: Parameters = Field({}, description="binary_data: send it in binary.")


class InferRequest(Strict):
    """Rows to score, a tensor for each column."""

    id: str | None = Field(None, max_length=200, description="Comes back in the answer.")
    model_name: str | None = None
    parameters: Parameters = Field(
        {},
        description="binary_data_output: send every tensor in binary. empty_is_null: an empty "
        "text is a null. idempotency_keys: a list, one key a row; a repeated key is answered "
        "again, counted once.",
    )
    inputs: list[InputTensor] = Field(min_length=1, max_length=MAX_TENSORS)
    outputs: list[OutputAsked] | None = Field(
        None, max_length=MAX_TENSORS, description="Default: all of them."
    )


class OutputTensor(Strict):
    """One tensor of the answer, of shape [rows]."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | None = None
    data: list[float] | list[str] | None = None


class InferResponse(Strict):
    """The predictions of every row, in the order of the request."""

    model_name: str
    model_version: str = Field(
        description="Digest of the champion; the tensor `version` says who answered each row."
    )
    id: str | None = None
    parameters: Parameters = Field(
        description="generation: the number of the roles; kept: false where it could not be logged."
    )
    outputs: list[OutputTensor]


class InferError(Strict):
    """Every answer below /v2 that is no success has this shape."""

    error: str


class Live(Strict):
    """The process lives."""

    live: bool = True


class Ready(Strict):
    """A champion answers."""

    ready: bool = True


class ModelReady(Strict):
    """The model answers."""

    name: str
    ready: bool = True


class ServerMetadata(Strict):
    """Who answers, and which extensions of the protocol it speaks."""

    name: str = "mainspring"
    version: str = "1"
    extensions: list[str] = Field(["binary_tensor_data"])


class TensorMetadata(Strict):
    """A tensor: its name, its datatype, and -1 for the number of rows."""

    name: str
    datatype: str
    shape: list[int] = Field([-1])


class ModelMetadata(Strict):
    """The tensors of a model, and the version that answers."""

    name: str
    versions: list[str]
    platform: str = "mainspring_bundle"
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


def model_metadata(model: str, version: str, contract: Contract) -> ModelMetadata:
    """Describe a model; which inputs may be absent is told by /v1/{model}/metadata."""
    return ModelMetadata(
        name=model,
        versions=[version],
        inputs=[TensorMetadata(name=c.name, datatype=datatype_of(c)) for c in contract.columns],
        outputs=[TensorMetadata(name=name, datatype=kind) for name, kind in OUTPUTS.items()],
    )


def datatype_of(column: Column) -> str:
    """Name the datatype of a column: FP64 for numbers, BYTES for all others."""
    return NUMBER if column.kind == "number" else TEXT


def refusal_text(refusal: Refused) -> str:
    """Write a refusal as one text, the reasons of the first rows in it.

    >>> refusal_text(Refused(404, "path", "model boats", "this server has flights"))
    'path: model boats; this server has flights'
    """
    rejected = refusal.rejected or []
    reasons = [f"row {item.row}: {', '.join(item.reasons)}" for item in rejected[:NUM_SHOWN]]
    more = len(rejected) - NUM_SHOWN
    return "; ".join([str(refusal), *reasons, *([f"and {more} more rows"] if more > 0 else [])])


def infer_schema(contract: Contract, model: str, most_rows: int) -> dict[str, Any]:
    """Describe a request in JSON with this model's columns, as a JSON schema.

    It cannot say that a column is sent once, that all have as many values as their shape says, or
    that a number fits its datatype; the descriptions do. Limits of columns are left to the rows of
    the plain path: here they would be said once for each column and form.
    """
    schema = InferRequest.model_json_schema(ref_template="#/{model}")
    tensor, output = schema["$defs"]["InputTensor"], schema["$defs"]["OutputAsked"]
    del schema["$defs"]
    request = schema["properties"]
    request["model_name"]["anyOf"][0] = {"const": model}
    request["parameters"]["properties"] = _request_parameters(most_rows)
    request["inputs"] |= {"items": _tensor_schema(tensor, contract, most_rows)}
    request["outputs"]["anyOf"][0]["items"] = output
    output["properties"]["name"] |= {"enum": list(OUTPUTS)}
    output["properties"]["parameters"]["properties"] = {BINARY: {"type": "boolean"}, **REFUSED}
    return schema


def _request_parameters(most_rows: int) -> dict[str, Any]:
    key = {"type": "string", "minLength": 1, "maxLength": 200}
    keys = {"type": "array", "items": key, "uniqueItems": True, "maxItems": most_rows}
    return {
        ALL_BINARY: {"type": "boolean"},
        EMPTY_IS_NULL: {"type": "boolean"},
        KEYS: {**keys, "minItems": 1},
    }


def _tensor_schema(schema: dict[str, Any], contract: Contract, most_rows: int) -> dict[str, Any]:
    """Describe a tensor in JSON: one of the columns, with that column's datatypes and values."""
    told = schema["properties"]
    told["shape"] |= {
        "prefixItems": [{"type": "integer", "minimum": 1, "maximum": most_rows}, {"const": 1}],
        "items": {"type": "integer"},
    }
    told["parameters"]["properties"] = {EMPTY_IS_NULL: {"type": "boolean"}, **REFUSED}
    told["parameters"]["properties"] |= {BINARY_SIZE: False}
    size = {"minItems": 1, "maxItems": most_rows}
    told["data"] = {"description": DATA, "type": "array", **size}
    return {
        **schema,
        "required": [*schema["required"], "data"],
        "anyOf": [{"properties": kind} for kind in _kinds(contract)],
    }


def _kinds(contract: Contract) -> list[dict[str, Any]]:
    """Describe the tensors of columns, those that take the same values together."""
    kinds: dict[str, dict[str, Any]] = {}
    for column in contract.columns:
        told = column_schema(column)
        value = {key: told[key] for key in told.keys() & {"type", "format", "minLength", "enum"}}
        one = {"type": "array", "items": value, "minItems": 1, "maxItems": 1}
        kind = {
            "name": {"enum": []},
            "datatype": {"enum": JSON_NUMBERS if column.kind == "number" else [TEXT]},
            "data": {"anyOf": [{"type": "array", "items": each} for each in (value, one)]},
        }
        kinds.setdefault(repr(sorted(value.items())), kind)["name"]["enum"].append(column.name)
    return list(kinds.values())

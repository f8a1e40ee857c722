"""What schemathesis cannot read from the schema: the rules that JSON Schema has no words for.

Schemathesis loads this file itself. Requests that it made to be good are made to keep those rules;
requests that it made to be bad are sent as they are. Every failure that is not counted as one is
named here with its reason.
"""

import random
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.ipc as ipc
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation

from app.config import load_config
from app.contracts.rows import Column
from tests.replica_process import ROOT
from tests.serving_world import make_rows, make_table
from tests.tensor_bodies import tensors_of

CONTRACT = load_config(ROOT / "configs" / "flights.yaml").contract
HEADER = "Inference-Header-Content-Length"
ARROW, BINARY = "application/vnd.apache.arrow.stream", "application/octet-stream"
PAST = "2013-01-01T05:00:00Z"


@st.composite
def arrow_streams(draw: st.DrawFn) -> bytes:
    """Write rows as a client of Arrow does, in one batch or in several."""
    table = make_table(CONTRACT, draw(st.integers(1, 12)), draw(st.integers(0, 1000)))
    optional = [column.name for column in CONTRACT.columns if column.nullable]
    dropped = draw(st.lists(st.sampled_from(optional), unique=True)) if optional else []
    table = table.select(draw(st.permutations([n for n in table.schema.names if n not in dropped])))
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=draw(st.integers(1, 12)))
    return sink.getvalue().to_pybytes()


@st.composite
def binary_tensors(draw: st.DrawFn) -> bytes:
    """Write rows as a client of the Open Inference Protocol does; its JSON is found by a brace."""
    rows = make_rows(CONTRACT, draw(st.integers(1, 12)), draw(st.integers(0, 1000)))
    tensors, tail = tensors_of(CONTRACT, rows)
    for tensor in tensors:
        tensor["shape"] += [1] * draw(st.integers(0, 1))
    asked = {"empty_is_null": True, "binary_data_output": draw(st.booleans())}
    return orjson.dumps({"inputs": tensors, "parameters": asked}) + tail


schemathesis.openapi.media_type(ARROW, arrow_streams())
schemathesis.openapi.media_type(BINARY, binary_tensors())


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Let a request that is meant to be good keep what only the descriptions say."""
    meta = case.meta
    if meta is None or meta.is_negative_at(ParameterLocation.HEADER):
        return
    if case.path.endswith("/infer"):
        _say_where_json_ends(case)
    if meta.is_negative_at(ParameterLocation.BODY) or not isinstance(case.body, dict):
        return
    if case.path.endswith("/predict"):
        _one_key_a_row(case.body, len(case.body.get("rows", [])))
    elif case.path.endswith("/labels"):
        _known_already(case.body)
    elif case.path.endswith("/infer"):
        _whole_rows(case.body)


def _say_where_json_ends(case: Any) -> None:
    """A JSON body has no other part; the header of a body in binary says how long its JSON is."""
    names = [name for name in case.headers if name.lower() == HEADER.lower()]
    for name in names:
        del case.headers[name]
    if case.media_type == BINARY and isinstance(case.body, bytes):
        case.headers[HEADER] = str(case.body.index(b"}}", case.body.index(b"_output")) + 2)


def _one_key_a_row(body: dict[str, Any], num_rows: int) -> None:
    """As many keys as rows."""
    keys = body.get("idempotency_keys")
    if keys is not None and len(keys) != num_rows:
        body["idempotency_keys"] = [f"key-{i}" for i in range(num_rows)]


def _known_already(body: dict[str, Any]) -> None:
    """No outcome is known before its time."""
    for label in body.get("labels", []):
        if label.get("known_at") is not None:
            label["known_at"] = PAST


def _whole_rows(body: dict[str, Any]) -> None:
    """Every column that is needed, each once, with as many values as the shape says."""
    sent: dict[str, dict[str, Any]] = {}
    for tensor in body["inputs"]:
        sent.setdefault(tensor["name"], tensor)
    # To JSON Schema 1.0 is a whole number; here 1 is.
    num_rows = int(min(body["inputs"][0]["shape"][0], 10))
    good = make_rows(CONTRACT, num_rows, random.Random(num_rows).randrange(1000))
    for column in CONTRACT.columns:
        values = [row[column.name] for row in good]
        tensor = sent.setdefault(column.name, {"name": column.name, "data": values})
        own = [value[0] if isinstance(value, list) else value for value in tensor["data"]]
        own = [_within(value, column) for value in own]
        # Ids of one request differ.
        tensor["data"] = values if column.name == CONTRACT.id else (own * num_rows)[:num_rows]
        tensor["shape"] = [num_rows]
        tensor["datatype"] = "FP64" if column.kind == "number" else "BYTES"
        tensor.get("parameters", {}).pop("empty_is_null", None)
    body["inputs"] = list(sent.values())
    parameters = body.get("parameters", {})
    parameters.pop("empty_is_null", None)
    if "idempotency_keys" in parameters:
        parameters["idempotency_keys"] = [f"key-{i}" for i in range(num_rows)]
    if body.get("outputs"):
        body["outputs"] = list({each["name"]: each for each in body["outputs"]}.values())


def _within(value: Any, column: Column) -> Any:
    """Bring a number within its column's limits."""
    if column.kind != "number" or value is None:
        return value
    value = value if column.minimum is None else max(value, column.minimum)
    return value if column.maximum is None else min(value, column.maximum)


@schemathesis.hook
def filter_failure(context: Any, failure: Failure, case: Any, response: Any) -> bool:
    """Say which findings are none."""
    if not isinstance(failure, AcceptedNegativeData):
        return True
    # Schemathesis does not list it among refusals: too many rows, or too long a body.
    if response.status_code == 413:
        return False
    # Rows are judged one by one: what is bad is named in `rejected`, what is good is answered.
    if response.status_code == 200 and case.path.endswith(("/predict", "/labels", "/explain")):
        return not response.json().get("rejected")
    return True

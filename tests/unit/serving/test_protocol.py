"""The codec of the Open Inference Protocol: what is read, to the byte, and what is refused."""

import struct
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import Config
from app.contracts.records import Roles
from app.contracts.rows import Contract
from app.serving.messages import Refused
from app.serving.protocol import Asked, read_infer, write_infer
from app.serving.tensors import NUMBERS, binary_of, numbers_of_json, texts_of_binary

SMALL = Contract.model_validate(
    {
        "id": "key",
        "event_time": "at",
        "label": "late",
        "columns": [
            {"name": "key", "kind": "identifier", "feature": False},
            {"name": "at", "kind": "time", "feature": False},
            {"name": "weight", "kind": "number", "nullable": True},
            {"name": "colour", "kind": "category", "nullable": True},
            {"name": "secret", "kind": "identifier", "privacy": "forbidden"},
        ],
    }
)
TIME = "2013-04-01T10:15:00Z"


def read_or_refused(body: bytes, length: str | None) -> Asked | Refused:
    """Read a body, or say how it was refused; whatever else is raised is a fault."""
    try:
        return read_infer(body, length, SMALL, "small", 100)
    except Refused as refused:
        return refused


def tensor(name: str, data: Any = None, datatype: str = "BYTES", **more: Any) -> dict[str, Any]:
    given_data = {} if data is None else {"data": data}
    shape = [len(data)] if data is not None else [2]
    return {"name": name, "shape": shape, "datatype": datatype, **given_data, **more}


def plain(**more: Any) -> dict[str, Any]:
    """A request of two rows that is taken."""
    inputs = [tensor("key", ["a", "b"]), tensor("at", [TIME, TIME])]
    return {"inputs": [*inputs, tensor("weight", [1.5, None], "FP64")], **more}


def read(document: Any, rest: bytes = b"", length: str | None = None) -> Asked:
    head = orjson.dumps(document)
    if rest and length is None:
        length = str(len(head))
    return read_infer(head + rest, length, SMALL, "small", 100)


def refusal(document: Any, rest: bytes = b"", length: str | None = None) -> str:
    with pytest.raises(Refused) as refused:
        read(document, rest, length)
    assert refused.value.status == 400
    return str(refused.value)


def test_columns_keep_their_order_values_and_nulls() -> None:
    asked = read(plain(id="r1"))
    assert asked.table.to_pydict() == {
        "key": ["a", "b"],
        "at": [TIME, TIME],
        "weight": [1.5, None],
    }
    assert (asked.id, asked.keys) == ("r1", None)
    names = ("probability", "prediction_id", "row_id", "version")
    assert asked.outputs == dict.fromkeys(names, False)


@pytest.mark.parametrize("datatype", [name for name in NUMBERS if name != "FP16"])
def test_a_number_of_any_width_is_the_same_in_json_and_in_binary(datatype: str) -> None:
    layout = np.dtype(NUMBERS[datatype])
    least, most = (np.iinfo(layout).min, np.iinfo(layout).max) if layout.kind != "f" else (-1, 1)
    values = np.array([max(least, -(2**53)), min(most, 2**53)], layout)
    if layout.kind == "f":
        values = np.array([0.1, -3e5], layout)
    document = plain()
    document["inputs"][2] = tensor("weight", values.tolist(), datatype)
    in_json = read(document).table["weight"].to_pylist()
    document["inputs"][2] = tensor(
        "weight", None, datatype, parameters={"binary_data_size": values.nbytes}
    )
    in_binary = read(document, values.tobytes()).table["weight"].to_pylist()

    assert in_json == in_binary == [float(value) for value in values]
    # Written in decimals a narrow number is rounded as it would have been in binary.
    document["inputs"][2] = tensor("weight", [0.1, 0.2], "FP32")
    narrow = read(document).table["weight"].to_pylist()
    assert narrow == [float(np.float32(0.1)), float(np.float32(0.2))]


def test_binary_tensors_lie_behind_the_json_in_the_order_of_the_inputs() -> None:
    document = plain()
    weights = np.array([np.nan, 2.5], "<f8").tobytes()
    texts = struct.pack("<I", 3) + "né".encode() + struct.pack("<I", 0)
    document["inputs"][2] = tensor("weight", None, "FP64", parameters={"binary_data_size": 16})
    document["inputs"].append(
        {**tensor("colour"), "shape": [2, 1], "parameters": {"binary_data_size": len(texts)}}
    )
    table = read(document, weights + texts).table
    assert table["weight"].to_pylist() == [None, 2.5]
    assert table["colour"].to_pylist() == ["né", ""]
    document["parameters"] = {"empty_is_null": True}
    assert read(document, weights + texts).table["colour"].to_pylist() == ["né", None]


def test_rows_by_one_may_stand_in_lists_of_one() -> None:
    document = plain()
    document["inputs"][2] = {**tensor("weight", [[1], [None]], "INT8"), "shape": [2, 1]}
    assert read(document).table["weight"].to_pylist() == [1.0, None]
    document["inputs"][2]["data"] = [1, 2]
    assert read(document).table["weight"].to_pylist() == [1.0, 2.0]


def changed(place: int, **more: Any) -> dict[str, Any]:
    document = plain()
    document["inputs"][place] |= more
    return document


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "body: "),
        ({}, "inputs: Field required"),
        (plain(model_name="large"), "model_name: large; send small, or none"),
        (plain(speed=1), "speed: Extra inputs are not permitted"),
        (changed(0, name="weight"), "inputs: weight given more than once"),
        (changed(2, name="height"), "inputs: unknown: height"),
        (changed(2, name="secret"), "inputs: secret is forbidden and must not be sent"),
        ({"inputs": plain()["inputs"][:1]}, "inputs: missing: at"),
        (changed(2, shape=[3]), "inputs.weight: 3 rows, key has 2"),
        (changed(2, shape=[2, 2]), "inputs.weight: shape [2, 2]"),
        (changed(0, shape=[0], data=[]), "inputs.key: shape [0]"),
        (changed(2, shape=[2.0]), "inputs.2.shape.0: "),
        (changed(2, shape=[True]), "inputs.2.shape.0: "),
        (changed(2, data=[1.5]), "inputs.weight: 1 values; send 2 values"),
        (changed(2, data={"a": 1}), "inputs.weight: no list"),
        (changed(2, data=[[1], [2]]), "inputs.weight: value 0 is of type list"),
        (changed(2, shape=[2, 1], data=[[1], [2, 3]]), "inputs.weight: uneven lists"),
        (changed(2, data=[True, False]), "inputs.weight: value 0 is of type bool; send numbers"),
        (changed(2, data=["1", 2]), "inputs.weight: value 0 is of type str"),
        (changed(2, datatype="BOOL"), "inputs.weight: datatype BOOL for a column of kind number"),
        (changed(2, datatype="BYTES"), "inputs.weight: datatype BYTES"),
        (changed(0, datatype="FP64"), "inputs.key: datatype FP64 for a column of kind identifier"),
        (changed(0, data=["a", 7]), "inputs.key: value 1 is of type int; send texts"),
        (changed(2, datatype="INT32", data=[1.0, 2]), "value 0 is of type float; send whole"),
        (changed(2, datatype="INT8", data=[1, 200]), "value 1 is no INT8"),
        (changed(2, datatype="UINT8", data=[-1, 2]), "value 0 is no UINT8"),
        (changed(2, datatype="INT64", data=[1, 2**53 + 1]), "value 1 is beyond 2**53"),
        (changed(2, datatype="FP32", data=[1, 1e300]), "value 1 is no FP32; send FP64"),
        (changed(2, datatype="FP16"), "FP16 in JSON"),
        (changed(2, data=None), "inputs.weight: no data"),
        (changed(2, parameters={"binary_data_size": 16}), "both data and binary_data_size"),
        (changed(2, data=None, parameters={"binary_data_size": 16}), "binary data; send a size"),
        (changed(2, parameters={"shared_memory_region": "x"}), "shared_memory_region is not"),
        (changed(2, parameters={"empty_is_null": 1}), "empty_is_null: int"),
        (plain(outputs=[{"name": "score"}]), "outputs.score: no such output; ask for probability"),
        (plain(outputs=[{"name": "row_id"}] * 2), "outputs.row_id: asked for twice"),
        (
            plain(outputs=[{"name": "row_id", "parameters": {"classification": 2}}]),
            "classification is not offered",
        ),
        (plain(parameters={"binary_data_output": "yes"}), "binary_data_output: str"),
        (plain(parameters={"idempotency_keys": "k"}), "parameters.idempotency_keys: no list"),
        (plain(parameters={"idempotency_keys": ["k"]}), "1 keys for 2 rows"),
        (plain(parameters={"idempotency_keys": ["k", "k"]}), "a key given more than once"),
        (plain(parameters={"idempotency_keys": ["k", ""]}), "1 keys that are no texts of 1 to 200"),
    ],
)
def test_what_is_not_so_is_refused_with_its_place(document: Any, told: str) -> None:
    assert told in refusal(document)


@pytest.mark.parametrize(
    ("size", "rest", "length", "told"),
    [
        (16, b"\0" * 15, None, "16 bytes, where 15 are left"),
        (16, b"\0" * 17, None, "1 bytes that no tensor claims"),
        (8, b"\0" * 8, None, "8 bytes for 2 values of FP64; send 16 bytes"),
        (-1, b"\0" * 16, None, "binary_data_size -1"),
        (16.0, b"\0" * 16, None, "binary_data_size 16.0"),
        (True, b"\0" * 16, None, "binary_data_size True"),
        (2**80, b"\0" * 16, None, "binary_data_size 1.2"),
        (16, b"\0" * 16, "999999", "999999 of "),
        (16, b"\0" * 16, "-5", "inference-header-content-length: -5"),
        (16, b"\0" * 16, "٣", "inference-header-content-length: "),
        (16, b"\0" * 16, "9" * 30, "inference-header-content-length: "),
        (16, b"\0" * 16, "10", "no JSON: "),
    ],
)
def test_bytes_that_are_not_as_claimed_are_refused(
    size: Any, rest: bytes, length: str | None, told: str
) -> None:
    head = b'{"name":"weight","shape":[2],"datatype":"FP64","parameters":{"binary_data_size":%s}}'
    inputs = b",".join(orjson.dumps(each) for each in plain()["inputs"][:2])
    written = str(size).lower().encode() if isinstance(size, bool) else str(size).encode()
    document = b'{"inputs":[' + inputs + b"," + head % written + b"]}"
    with pytest.raises(Refused) as refused:
        read_infer(document + rest, length or str(len(document)), SMALL, "small", 100)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "0 of 2 values in 0 bytes"),
        (struct.pack("<I", 1) + b"a", "1 of 2 values in 5 bytes"),
        (struct.pack("<I", 2**32 - 1) + b"a" * 8, "value 0 reaches beyond the tensor"),
        (struct.pack("<I", 0) * 3, "4 bytes behind the last value"),
        (struct.pack("<I", 1) + b"\xff" + struct.pack("<I", 0), "a value that is no UTF-8 text"),
    ],
)
def test_texts_that_are_not_as_long_as_they_say_are_refused(content: bytes, told: str) -> None:
    with pytest.raises(Refused) as refused:
        texts_of_binary(memoryview(content), 2, "inputs.x")
    assert told in str(refused.value)


def test_more_rows_than_are_taken_are_413_before_they_are_read() -> None:
    inputs = [tensor("key", ["a"]), tensor("at", [TIME])]
    for each in inputs:
        each["shape"] = [101]
    with pytest.raises(Refused) as refused:
        read({"inputs": inputs})
    assert refused.value.status == 413


def test_a_list_of_a_million_broken_tensors_is_one_complaint() -> None:
    with pytest.raises(Refused) as refused:
        read_infer(b'{"inputs":[' + b"{}," * 1_000_000 + b"{}]}", None, SMALL, "small", 100)
    assert len(str(refused.value)) < 500


@given(
    st.lists(
        st.tuples(st.floats(allow_infinity=False), st.text(max_size=20)), min_size=1, max_size=20
    )
)
def test_any_rows_in_binary_come_back_as_they_were(rows: list[tuple[float, str]]) -> None:
    weights = np.array([weight for weight, _ in rows], "<f8").tobytes()
    colours = binary_of(pa.array([colour for _, colour in rows], pa.string()))
    keys = [f"k{i}" for i in range(len(rows))]
    shape = [len(rows)]
    inputs = [
        tensor("key", keys),
        tensor("at", [TIME] * len(rows)),
        {**tensor("weight", None, "FP64"), "shape": shape},
        {**tensor("colour"), "shape": shape},
    ]
    for each, content in zip(inputs[2:], (weights, colours), strict=True):
        each["parameters"] = {"binary_data_size": len(content)}
    table = read({"inputs": inputs}, weights + colours).table

    assert table["colour"].to_pylist() == [colour for _, colour in rows]
    expected = [None if weight != weight else weight for weight, _ in rows]
    assert table["weight"].to_pylist() == expected


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(["key", "at", "weight", "colour", "secret", "other"])
LOOSE_TENSORS = st.fixed_dictionaries(
    {
        "name": NAMES,
        "shape": st.lists(st.integers(-1, 3), max_size=3),
        "datatype": st.sampled_from([*NUMBERS, "BYTES", "BOOL"]),
    },
    optional={
        "data": JSON_VALUES | st.lists(JSON_VALUES, min_size=1, max_size=2),
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data_size", "empty_is_null", "shared_memory_region"]),
            st.integers(-1, 40) | JSON_VALUES,
            max_size=2,
        ),
    },
)


@given(
    st.dictionaries(
        st.sampled_from(["id", "inputs", "outputs", "parameters", "model_name"]),
        JSON_VALUES | st.lists(LOOSE_TENSORS, max_size=4),
    ),
    st.binary(max_size=60),
    st.none() | st.text(max_size=5) | st.integers(0, 400).map(str),
)
def test_whatever_comes_is_read_or_refused(
    document: dict[str, Any], rest: bytes, length: str | None
) -> None:
    head = orjson.dumps(document)
    for body, said in ((head + rest, length), (head + rest, str(len(head))), (rest, length)):
        outcome = read_or_refused(body, said)
        if isinstance(outcome, Refused):
            assert outcome.status in (400, 413)
            assert len(str(outcome)) < 20_000
        else:
            assert 1 <= outcome.table.num_rows <= 100


@given(st.data())
def test_a_good_request_with_bytes_changed_is_read_or_refused(data: st.DataObject) -> None:
    document = plain()
    weights = np.array([1.0, 2.0], "<f8").tobytes()
    colours = binary_of(pa.array(["red", ""]))
    document["inputs"][2] = tensor("weight", None, "FP64", parameters={"binary_data_size": 16})
    document["inputs"].append(tensor("colour", parameters={"binary_data_size": len(colours)}))
    head = orjson.dumps(document)
    body = bytearray(head + weights + colours)
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=4)):
        body[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(body)) | st.just(len(body)))
    outcome = read_or_refused(bytes(body[:end]), str(len(head)))
    if isinstance(outcome, Refused):
        assert outcome.status in (400, 413)
    else:
        assert outcome.table.num_rows == 2


def test_an_answer_in_binary_is_the_answer_in_json(flights: Config) -> None:
    predictions = pa.table(
        {
            "row_id": ["a", "né"],
            "prediction_id": ["p1", "p2"],
            "probability": [0.25, 0.1],
        }
    )
    roles = Roles(model="flights", generation=3, champion="c" * 64)
    names = ("probability", "row_id")
    ways = [
        write_infer(
            Asked(None, predictions, None, dict.fromkeys(names, binary)),
            "flights",
            roles,
            predictions,
        )
        for binary in (False, True)
    ]
    (in_json, no_length), (content, length) = ways
    assert no_length is None
    assert length is not None
    written = orjson.loads(in_json)
    head, tail = orjson.loads(content[:length]), memoryview(content[length:])
    assert "id" not in written
    assert (head["model_version"], head["parameters"]) == ("c" * 64, {"generation": 3})
    sizes = [output["parameters"]["binary_data_size"] for output in head["outputs"]]
    assert np.frombuffer(tail[: sizes[0]]).tolist() == written["outputs"][0]["data"] == [0.25, 0.1]
    texts = texts_of_binary(tail[sizes[0] :], 2, "x").to_pylist()
    assert texts == written["outputs"][1]["data"] == ["a", "né"]


def test_a_json_number_is_refused_where_no_float_holds_it() -> None:
    with pytest.raises(Refused, match="beyond FP64"):
        numbers_of_json([10**400], "FP64", "inputs.x")

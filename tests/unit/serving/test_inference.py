"""The Open Inference Protocol over HTTP: the same answers as plain rows get, in its own words."""

import struct
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from app.contracts.access import Limits
from app.contracts.rows import Contract
from app.serving.api import build_api
from tests.serving_world import make_bundle, make_rows, make_table
from tests.stream_mutations import written
from tests.unit.serving.conftest import World

INFER = "/v2/models/flights/infer"
LENGTH = "inference-header-content-length"


def tensors(contract: Contract, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write rows as tensors in JSON."""
    return [
        {
            "name": column.name,
            "shape": [len(rows)],
            "datatype": "FP64" if column.kind == "number" else "BYTES",
            "data": [row[column.name] for row in rows],
        }
        for column in contract.columns
    ]


def in_binary(inputs: list[dict[str, Any]], **more: Any) -> tuple[bytes, dict[str, str]]:
    """Write a body whose tensors follow its JSON; empty_is_null stands for nulls of texts."""
    tails = []
    for tensor in inputs:
        data = tensor.pop("data")
        if tensor["datatype"] == "BYTES":
            texts = [(text or "").encode() for text in data]
            tails.append(b"".join(struct.pack("<I", len(text)) + text for text in texts))
        else:
            tails.append(np.array(data, "<f8").tobytes())
        tensor["parameters"] = {"binary_data_size": len(tails[-1])}
    head = orjson.dumps({"inputs": inputs, **more})
    return b"".join([head, *tails]), {LENGTH: str(len(head))}


def output(answer: dict[str, Any], name: str) -> Any:
    (found,) = [tensor for tensor in answer["outputs"] if tensor["name"] == name]
    return found


def test_tensors_get_the_bundles_own_probabilities_and_are_logged_as_rows(world: World) -> None:
    contract = world.config.contract
    inputs = tensors(contract, make_rows(contract, 25))
    body = {
        "id": "r1",
        "inputs": inputs,
        "parameters": {"idempotency_keys": list(map(str, range(25)))},
    }

    answer = world.client.post(INFER, json=body)

    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert (content["model_name"], content["model_version"]) == ("flights", world.champion)
    assert (content["id"], content["parameters"]) == ("r1", {"generation": 1})
    expected = make_bundle(contract, seed=1).predict(make_table(contract, 25))
    probability = output(content, "probability")
    assert (probability["datatype"], probability["shape"]) == ("FP64", [25])
    np.testing.assert_allclose(probability["data"], expected, atol=1e-6)
    logged = world.logged("predictions")
    assert logged["prediction_id"].to_pylist() == output(content, "prediction_id")["data"]
    assert logged["row_id"].to_pylist() == output(content, "row_id")["data"]
    assert logged["idempotency_key"].to_pylist() == [str(i) for i in range(25)]
    assert world.logged("events").num_rows == 25


def test_binary_tensors_get_the_same_answer_as_rows_to_the_bit(world: World) -> None:
    contract = world.config.contract
    rows = make_rows(contract, 30)
    plain = world.client.post("/v1/flights/predict", json={"rows": rows}).json()["predictions"]
    more = {"parameters": {"binary_data_output": True, "empty_is_null": True}}
    body, headers = in_binary(tensors(contract, rows), **more)

    answer = world.client.post(INFER, content=body, headers=headers)

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[LENGTH])
    content, tail = orjson.loads(answer.content[:length]), answer.content[length:]
    sizes = [tensor["parameters"]["binary_data_size"] for tensor in content["outputs"]]
    assert sum(sizes) == len(tail)
    names = ["probability", "prediction_id", "row_id", "version"]
    assert [t["name"] for t in content["outputs"]] == names
    assert np.frombuffer(tail[: sizes[0]]).tolist() == [row["probability"] for row in plain]
    assert tail[sizes[0] :][:4] == struct.pack("<I", 32)
    assert tail[sizes[0] + 4 :][:32].decode() == plain[0]["prediction_id"]
    # A repeated key is one prediction to readers: both answers name the same.
    assert len(set(world.logged("predictions")["prediction_id"].to_pylist())) == 30


def test_an_output_is_sent_as_it_is_asked_for(world: World) -> None:
    contract = world.config.contract
    body = {
        "inputs": tensors(contract, make_rows(contract, 2)),
        "outputs": [
            {"name": "row_id"},
            {"name": "probability", "parameters": {"binary_data": True}},
        ],
    }
    answer = world.client.post(INFER, json=body)
    length = int(answer.headers[LENGTH])
    content = orjson.loads(answer.content[:length])

    assert [tensor["name"] for tensor in content["outputs"]] == ["row_id", "probability"]
    assert content["outputs"][0]["data"] == ["row-0", "row-1"]
    assert content["outputs"][1]["parameters"] == {"binary_data_size": 16}
    assert len(answer.content) == length + 16


def test_a_request_with_an_unacceptable_row_is_refused_whole_and_only_that_row_is_kept(
    world: World,
) -> None:
    contract = world.config.contract
    rows = make_rows(contract, 4)
    rows[1]["distance"] = -5.0
    rows[3]["origin"] = "SFO"

    answer = world.client.post(INFER, json={"inputs": tensors(contract, rows)})

    assert answer.status_code == 400
    text = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert text.startswith("rows: 2 of 4 are not acceptable and none was scored; mend those")
    assert "row 1: distance must be in 10..6000, got -5.0" in text
    assert "row 3: origin must be one of EWR, JFK, LGA, got 'SFO'" in text
    assert world.logged("quarantine")["position"].to_pylist() == [1, 3]
    assert world.logged("events").num_rows == 0
    assert world.logged("predictions").num_rows == 0
    # The others have not come in: sent again without the bad ones they are taken.
    good = [rows[0], rows[2]]
    again = world.client.post(INFER, json={"inputs": tensors(contract, good)})
    assert again.status_code == 200
    assert world.logged("events").num_rows == 2


def test_a_nan_is_a_null_and_an_absent_nullable_tensor_is_nulls(world: World) -> None:
    contract = world.config.contract
    rows = make_rows(contract, 3)
    for row in rows:
        row |= {"temperature": None, "plane_model": None, "tail": None}
    plain = world.client.post("/v1/flights/predict", json={"rows": rows}).json()["predictions"]
    inputs = [t for t in tensors(contract, rows) if t["name"] not in ("plane_model", "tail")]
    body, headers = in_binary(inputs, parameters={"empty_is_null": True})
    answer = world.client.post(INFER, content=body, headers=headers)

    assert answer.status_code == 200, answer.text
    got = output(answer.json(), "probability")["data"]
    assert got == [row["probability"] for row in plain]
    assert world.logged("events")["temperature"].null_count == 6


def test_an_empty_text_is_no_null_unless_it_is_said_so(world: World) -> None:
    contract = world.config.contract
    rows = make_rows(contract, 2)
    rows[0]["plane_model"] = ""
    inputs = tensors(contract, rows)
    assert world.client.post(INFER, json={"inputs": inputs}).status_code == 200
    assert world.logged("events")["plane_model"].to_pylist()[0] == ""

    for tensor in inputs:
        if tensor["name"] == "plane_model":
            tensor["parameters"] = {"empty_is_null": True}
    assert world.client.post(INFER, json={"inputs": inputs}).status_code == 200
    held = world.logged("events")["plane_model"].to_pylist()
    assert (held.count(""), held.count(None), len(held)) == (1, 1, 4)


def test_health_is_open_and_says_so_in_both_clients_words(empty_world: World) -> None:
    stranger = TestClient(build_api(empty_world.replica), raise_server_exceptions=False)
    assert stranger.get("/v2/health/live").json() == {"live": True}
    waiting = stranger.get("/v2/health/ready")
    assert waiting.status_code == 503
    assert "no champion is resident yet" in waiting.json()["error"]
    assert waiting.headers["retry-after"]
    empty_world.promote(seed=1)
    assert stranger.get("/v2/health/ready").json() == {"ready": True}


def test_everything_else_is_closed_and_says_why_in_one_text(world: World) -> None:
    stranger = TestClient(build_api(world.replica), raise_server_exceptions=False)
    paths = ("/v2", "/v2/models/flights", "/v2/models/flights/ready", "/v2/nowhere", "/v2/health/")
    answers = [stranger.get(path) for path in paths]
    answers.append(stranger.post(INFER, json={"inputs": []}))
    labeller = world.keyring.create("labeller", ["label"], datetime.now(UTC))
    header = {"Authorization": f"Bearer {labeller.get_secret_value()}"}
    barred = stranger.post(INFER, json={"inputs": []}, headers=header)

    assert [answer.status_code for answer in answers] == [401] * 6
    assert all(answer.headers["www-authenticate"] for answer in answers)
    assert barred.status_code == 403
    for answer in (*answers, barred):
        assert isinstance(answer.json()["error"], str)
        assert int(answer.headers["content-length"]) == len(answer.content)
    # Other paths keep their own words.
    assert isinstance(stranger.get("/v1/flights/metadata").json()["error"], dict)


def test_metadata_names_every_column_and_output(world: World) -> None:
    server = world.client.get("/v2").json()
    assert server["extensions"] == ["binary_tensor_data"]
    model = world.client.get("/v2/models/flights").json()
    assert model["versions"] == [world.champion]
    assert [tensor["name"] for tensor in model["inputs"]] == world.config.contract.schema.names
    kinds = {tensor["name"]: tensor["datatype"] for tensor in model["inputs"]}
    assert (kinds["distance"], kinds["tail"], kinds["scheduled_departure"]) == (
        "FP64",
        "BYTES",
        "BYTES",
    )
    assert all(tensor["shape"] == [-1] for tensor in model["inputs"] + model["outputs"])
    assert world.client.get("/v2/models/flights/ready").json() == {"name": "flights", "ready": True}


def test_a_version_is_the_champions_digest_and_no_other(world: World) -> None:
    contract, first = world.config.contract, world.champion
    body = {"inputs": tensors(contract, make_rows(contract, 2))}
    mine = f"/v2/models/flights/versions/{first}"
    other = f"/v2/models/flights/versions/{'0' * 64}"

    assert world.client.get(mine).status_code == 200
    assert world.client.get(f"{mine}/ready").status_code == 200
    assert world.client.post(f"{mine}/infer", json=body).json()["model_version"] == first
    refused = [world.client.get(other), world.client.get(f"{other}/ready")]
    refused.append(world.client.post(f"{other}/infer", json=body))
    world.promote(seed=2)
    refused.append(world.client.post(f"{mine}/infer", json=body))

    assert [answer.status_code for answer in refused] == [404] * 4
    assert all("ask for the champion" in answer.json()["error"] for answer in refused)
    assert world.logged("predictions").num_rows == 2


@pytest.mark.parametrize("path", ["/v2/models/boats", "/v2/models/boats/ready"])
def test_another_model_is_not_here(world: World, path: str) -> None:
    answer = world.client.get(path)
    assert (answer.status_code, answer.json()["error"]) == (
        404,
        "path: model boats; this server has flights",
    )
    assert world.client.post("/v2/models/boats/infer", json={}).status_code == 404


def test_more_rows_or_bytes_than_are_allowed_are_413(world: World) -> None:
    contract = world.config.contract
    rows = {"inputs": tensors(contract, make_rows(contract, 501))}
    assert world.client.post(INFER, json=rows).status_code == 413
    assert world.client.post(INFER, content=b" " * (2**20 + 1)).status_code == 413
    other = world.client.post(INFER, content=b"x", headers={"content-type": "text/csv"})
    assert other.status_code == 415


def test_openapi_describes_every_path_and_status(world: World) -> None:
    paths = world.client.get("/openapi.json").json()["paths"]
    infer = paths["/v2/models/{model}/versions/{version}/infer"]["post"]

    statuses = "200 400 401 403 404 405 408 413 415 429 500 503"
    assert sorted(infer["responses"]) == statuses.split()
    parameters = [(each["name"], each["in"]) for each in infer["parameters"]]
    assert parameters == [
        ("model", "path"),
        ("version", "path"),
        ("Inference-Header-Content-Length", "header"),
    ]
    assert "Inference-Header-Content-Length" in infer["responses"]["200"]["headers"]
    content = infer["requestBody"]["content"]
    assert set(content) == {"application/json", "application/octet-stream"}
    names = content["application/json"]["schema"]["properties"]["inputs"]["items"]["properties"]
    assert names["name"]["enum"] == world.config.contract.schema.names
    assert set(infer["responses"]["200"]["content"]) == set(content)
    error = infer["responses"]["400"]["content"]["application/json"]["schema"]["$ref"]
    assert error.endswith("/InferError")
    assert len([path for path in paths if path.startswith("/v2")]) == 9


@pytest.mark.parametrize("way", ["tensors", "arrow"])
def test_rows_are_charged_and_rounded_as_on_the_plain_path(world: World, way: str) -> None:
    contract = world.config.contract
    serving = world.config.serving.model_copy(update={"round_probability_digits": 2})
    config = world.config.model_copy(update={"serving": serving})
    world.replica.predictor = replace(world.replica.predictor, config=config)
    client = TestClient(build_api(world.replica), raise_server_exceptions=False)
    shop = world.keyring.create(
        "shop", ["predict"], datetime.now(UTC), limits=Limits(rows_per_day=30)
    )
    headers = {"x-api-key": shop.get_secret_value()}

    def ask() -> Any:
        if way == "tensors":
            body = {"inputs": tensors(contract, make_rows(contract, 20))}
            return client.post(INFER, json=body, headers=headers)
        stream = written(make_table(contract, 20), 100)
        kind = {"content-type": "application/vnd.apache.arrow.stream"}
        return client.post("/v1/flights/predict", content=stream, headers=headers | kind)

    first, second = ask(), ask()

    assert (first.status_code, second.status_code) == (200, 429)
    assert second.headers["retry-after"]
    logged = world.logged("predictions")["probability"].to_pylist()
    assert len(logged) == 20
    if way == "tensors":
        answered = output(first.json(), "probability")["data"]
        assert "rows: " in second.json()["error"]
    else:
        answered = pa.ipc.open_stream(first.content).read_all()["probability"].to_pylist()
    assert answered == [round(value, 2) for value in logged]
    assert answered != logged

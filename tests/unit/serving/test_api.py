"""The HTTP interface: every status, every body, and what each leaves in the log."""

import re
import threading
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from app.data.tables import NAMES
from app.ledger.clock import drive_clock
from app.security.privacy import PSEUDONYM
from app.serving.messages import (
    ErrorResponse,
    LabelsResponse,
    PredictResponse,
    Readiness,
)
from app.serving.rowpath import RowPath
from app.serving.state_messages import Metadata
from tests.serving_world import AT, make_bundle, make_rows, make_table
from tests.unit.serving.conftest import World, wait_until

PREDICT = "/v1/flights/predict"
LABELS = "/v1/flights/labels"


def post(world: World, rows: list[Any], **more: Any) -> Any:
    return world.client.post(PREDICT, json={"rows": rows, **more})


def test_rows_come_back_as_the_bundles_own_probabilities(world: World) -> None:
    contract = world.config.contract
    answer = post(world, make_rows(contract, 25), request_id="r1")

    assert answer.status_code == 200, answer.text
    body = PredictResponse.model_validate(answer.json())
    assert [item.row_id for item in body.predictions] == [f"row-{i}" for i in range(25)]
    expected = make_bundle(contract, seed=1).predict(make_table(contract, 25))
    np.testing.assert_allclose([p.probability for p in body.predictions], expected, atol=1e-6)
    assert (body.model, body.version, body.request_id) == ("flights", world.champion, "r1")
    assert body.generation == 1
    assert body.rejected == []


def test_every_answered_row_is_logged_with_what_made_its_prediction(world: World) -> None:
    drive_clock(world.ledger, world.config, now=AT)
    answer = post(world, make_rows(world.config.contract, 3)).json()

    events, predictions = world.logged("events"), world.logged("predictions")

    assert events["flight_id"].to_pylist() == ["row-0", "row-1", "row-2"]
    assert set(events["source"].to_pylist()) == {"serving"}
    logged = predictions.to_pylist()
    assert [
        {name: row[name] for name in ("row_id", "prediction_id", "probability")} for row in logged
    ] == answer["predictions"]
    assert {row["version"] for row in logged} == {world.champion}
    assert {(row["arm"], row["propensity"], row["generation"]) for row in logged} == {
        ("champion", 1.0, 1)
    }
    assert {row["served_at"] for row in logged} == {AT}
    assert [row["idempotency_key"] for row in logged] == ["row-0", "row-1", "row-2"]
    assert logged[0]["prediction_time"] == AT - world.config.contract.lead


def test_a_personal_value_is_nowhere_below_the_workspace(world: World) -> None:
    rows = make_rows(world.config.contract, 3)
    for row in rows:
        row["tail"] = "N12345SECRET"
    rows[1]["distance"] = -1.0
    rows[2] |= {"tale": "N12345SECRET"}
    answer = post(world, rows)
    world.replica.ship()

    assert len(answer.json()["rejected"]) == 2
    assert b"N12345SECRET" not in answer.content
    files = [path for path in world.config.workspace.rglob("*") if path.is_file()]
    assert [path for path in files if b"N12345SECRET" in path.read_bytes()] == []
    assert "N12345SECRET" not in str([world.tables.read(name).to_pylist() for name in NAMES])
    entity = world.tables.read("predictions")["entity"].to_pylist()[0]
    assert PSEUDONYM.fullmatch(entity)


def test_rejected_rows_are_quarantined_and_the_others_answered(world: World) -> None:
    rows = make_rows(world.config.contract, 4)
    rows[1]["distance"] = "far"
    rows[2]["origin"] = "SFO"

    body = post(world, rows).json()

    assert [item["row_id"] for item in body["predictions"]] == ["row-0", "row-3"]
    assert [item["row"] for item in body["rejected"]] == [1, 2]
    assert "distance must be a number" in body["rejected"][0]["reasons"][0]
    quarantined = world.logged("quarantine")
    assert quarantined["position"].to_pylist() == [1, 2]
    assert quarantined["reasons"].to_pylist() == [item["reasons"] for item in body["rejected"]]
    assert orjson.loads(quarantined["row"][1].as_py())["origin"] == "SFO"


def test_when_no_row_is_acceptable_the_answer_is_422_with_every_reason(world: World) -> None:
    answer = post(world, [{"flight_id": "a"}, "no row", 7, None])

    assert answer.status_code == 422
    body = ErrorResponse.model_validate(answer.json())
    assert body.error.got == "none of 4 rows is acceptable"
    assert body.rejected is not None
    assert [item.row for item in body.rejected] == [0, 1, 2, 3]
    assert world.logged("quarantine").num_rows == 4
    assert world.logged("predictions").num_rows == 0


def test_a_repeated_key_is_answered_alike_and_leaves_one_prediction_for_readers(
    world: World,
) -> None:
    rows = make_rows(world.config.contract, 2)

    first = post(world, rows, idempotency_keys=["k1", "k2"]).json()
    again = post(world, rows, idempotency_keys=["k1", "k2"]).json()

    assert first["predictions"] == again["predictions"]
    predictions = world.logged("predictions")
    assert predictions["idempotency_key"].to_pylist() == ["k1", "k2", "k1", "k2"]
    assert len(set(predictions["prediction_id"].to_pylist())) == 2


def test_keys_stay_with_their_rows_when_a_row_before_them_is_rejected(world: World) -> None:
    rows = make_rows(world.config.contract, 3)
    rows[0]["distance"] = None

    post(world, rows, idempotency_keys=["k0", "k1", "k2"])

    predictions = world.logged("predictions").select(["row_id", "idempotency_key"]).to_pylist()
    assert [tuple(row.values()) for row in predictions] == [("row-1", "k1"), ("row-2", "k2")]


BAD_BODIES = [
    (b"", "no JSON"),
    (b"{", "no JSON"),
    (b'{"rows": [NaN]}', "no JSON"),
    (b'{"rows": [\xff]}', "no JSON"),
    (b"[]", "valid dictionary"),
    (b"{}", "rows: Field required"),
    (b'{"rows": {}}', "rows: Input should be a valid list"),
    (b'{"rows": []}', "rows: List should have at least 1 item"),
    (b'{"rows": [{}], "row": 1}', "row: Extra inputs are not permitted"),
    (b'{"rows": [{}], "request_id": 5}', "request_id: Input should be a valid string"),
    (b'{"rows": [{}], "idempotency_keys": ["a", "b"]}', "got 2 keys for 1 rows"),
    (b'{"rows": [{}, {}], "idempotency_keys": ["a", "a"]}', "must differ"),
    (b'{"rows": [{}], "idempotency_keys": [""]}', "idempotency_keys.0: String should have"),
]


def test_a_body_that_is_not_the_message_is_400_and_says_what_is_wrong(world: World) -> None:
    for body, reason in BAD_BODIES:
        answer = world.client.post(PREDICT, content=body)

        assert answer.status_code == 400, body
        assert reason in ErrorResponse.model_validate(answer.json()).error.got, body


def test_other_refusals_have_their_status_and_say_what_to_change(world: World) -> None:
    row = make_rows(world.config.contract, 1)
    large = b'{"rows": ["' + b"x" * 2**20 + b'"]}'
    text = {"content-type": "text/plain"}
    answers = {
        404: world.client.post("/v1/boats/predict", json={"rows": row}),
        405: world.client.get(PREDICT),
        413: world.client.post(PREDICT, content=large),
        415: world.client.post(PREDICT, content=b"{}", headers=text),
    }

    assert {status: answer.status_code for status, answer in answers.items()} == {
        status: status for status in answers
    }
    for answer in answers.values():
        assert ErrorResponse.model_validate(answer.json()).error.change
    assert world.client.get("/nowhere").json()["error"]["where"] == "path"
    assert answers[405].headers["allow"] == "POST"


def test_too_many_rows_are_413_and_nothing_is_logged(world: World) -> None:
    answer = post(world, [{}] * 501)

    assert answer.status_code == 413
    assert answer.json()["error"]["got"] == "501, more than 500"
    assert world.logged("quarantine").num_rows == 0


def test_without_a_champion_the_server_lives_and_is_not_ready(empty_world: World) -> None:
    assert empty_world.client.get("/healthz").json() == {"status": "alive"}

    for answer in (
        empty_world.client.get("/readyz"),
        post(empty_world, make_rows(empty_world.config.contract, 1)),
    ):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "no champion is resident yet" in answer.json()["error"]["got"]


def test_a_promotion_switches_the_answers_without_a_restart(world: World) -> None:
    rows = make_rows(world.config.contract, 5)
    before = post(world, rows).json()
    first = world.champion

    second = world.promote(seed=2)

    after = post(world, rows).json()
    assert (before["version"], after["version"]) == (first, second)
    assert before["predictions"] != after["predictions"]
    ready = Readiness.model_validate(world.client.get("/readyz").json())
    assert (ready.version, ready.generation) == (second, 2)
    metadata = Metadata.model_validate(world.client.get("/v1/flights/metadata").json())
    assert metadata.resident == sorted([first, second])
    assert (metadata.champion, metadata.previous) == (second, first)


def test_requests_during_switches_all_get_an_answer_of_one_version(world: World) -> None:
    contract = world.config.contract
    rows = make_rows(contract, 5)
    table = make_table(contract, 5)
    versions = {world.champion: make_bundle(contract, seed=1).predict(table)}
    bodies: list[Any] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            bodies.append(post(world, rows).json())

    asking = threading.Thread(target=ask)
    asking.start()
    for seed in (2, 3, 4):
        versions[world.promote(seed)] = make_bundle(contract, seed).predict(table)
    done.set()
    asking.join()

    assert len({body["version"] for body in bodies}) > 1
    for body in bodies:
        answered = [item["probability"] for item in body["predictions"]]
        np.testing.assert_allclose(answered, versions[body["version"]], atol=1e-6)


def test_labels_are_logged_with_when_they_were_known(world: World) -> None:
    drive_clock(world.ledger, world.config, now=AT)
    labels = [
        {"row_id": "a", "label": 1, "known_at": "2013-04-01T05:00:00Z"},
        {"row_id": "b", "label": None, "void": True, "known_at": "2013-04-01T01:00:00-04:00"},
        {"row_id": "c", "label": 0},
    ]

    answer = world.client.post(LABELS, json={"labels": labels})

    assert LabelsResponse.model_validate(answer.json()).accepted == 3
    logged = world.logged("labels").to_pylist()
    assert [(row["row_id"], row["label"], row["void"]) for row in logged] == [
        ("a", 1, False),
        ("b", None, True),
        ("c", 0, False),
    ]
    assert [row["known_at"].hour for row in logged] == [5, 5, 6]
    assert {row["received_at"] for row in logged} == {AT}


BAD_LABELS = [
    ({"row_id": "a", "label": True}, "label"),
    ({"row_id": "a", "label": 2}, "label"),
    ({"row_id": "a", "label": 1.5}, "label"),
    ({"row_id": "a", "label": "1"}, "label"),
    ({"row_id": "a"}, "label is needed"),
    ({"row_id": "a", "label": 1, "void": True}, "void says that there is no outcome"),
    ({"row_id": "a", "label": 1, "void": 0}, "void: Input should be a valid boolean"),
    ({"row_id": "", "label": 1}, "row_id: String should have at least 1 character"),
    ({"row_id": 5, "label": 1}, "row_id: Input should be a valid string"),
    ({"label": 1}, "row_id: Field required"),
    ({"row_id": "a", "label": 1, "known_at": 86400}, "known_at: must be an ISO 8601 time"),
    ({"row_id": "a", "label": 1, "known_at": "2013-04-01T05:00:00"}, "timezone"),
    ({"row_id": "a", "label": 1, "known_at": "soon"}, "known_at: Invalid isoformat string"),
    ({"row_id": "a", "label": 1, "known_at": "2013-04-01T06:00:01Z"}, "is in the future, it is"),
    ({"row_id": "a", "label": 1, "colour": "red"}, "colour: Extra inputs are not permitted"),
    ("a", "valid dictionary"),
]


def test_a_bad_label_is_rejected_with_its_reason_and_the_good_one_is_kept(world: World) -> None:
    drive_clock(world.ledger, world.config, now=AT)
    for label, reason in BAD_LABELS:
        answer = world.client.post(LABELS, json={"labels": [label, {"row_id": "good", "label": 1}]})

        body = LabelsResponse.model_validate(answer.json())
        assert body.accepted == 1, label
        assert [item.row for item in body.rejected] == [0], label
        assert reason in body.rejected[0].reasons[0], label

    assert world.logged("labels")["row_id"].to_pylist() == ["good"] * len(BAD_LABELS)


def test_when_no_label_is_acceptable_the_answer_is_422(world: World) -> None:
    answer = world.client.post(LABELS, json={"labels": [{"row_id": "a", "label": 3}]})

    assert answer.status_code == 422
    assert answer.json()["rejected"][0]["row"] == 0


def test_labels_are_taken_before_there_is_a_champion(empty_world: World) -> None:
    answer = empty_world.client.post(LABELS, json={"labels": [{"row_id": "a", "label": 1}]})

    assert answer.status_code == 200
    assert empty_world.logged("labels").num_rows == 1


def test_a_full_disk_is_503_and_nothing_is_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", refuse)
    answer = post(world, make_rows(world.config.contract, 1))
    monkeypatch.undo()

    assert answer.status_code == 503
    assert answer.json()["error"]["where"] == "spool"
    assert str(world.config.workspace) not in answer.text
    assert world.logged("predictions").num_rows == 0


def test_a_fault_of_ours_is_json_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any, **more: Any) -> pa.Table:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(RowPath, "score", fail)

    answer = post(world, make_rows(world.config.contract, 1))

    assert answer.status_code == 500
    assert ErrorResponse.model_validate(answer.json()).error.where == "server"
    assert "secret" not in answer.text


def test_openapi_describes_every_column_and_every_status(world: World) -> None:
    document = world.client.get("/openapi.json").json()

    body = document["paths"]["/v1/{model}/predict"]["post"]["requestBody"]
    row = body["content"]["application/json"]["schema"]["properties"]["rows"]["items"]
    contract = world.config.contract
    assert list(row["properties"]) == [column.name for column in contract.columns]
    assert row["properties"]["origin"]["enum"] == ["EWR", "JFK", "LGA"]
    assert row["properties"]["humidity"] == {
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": 100.5,
        "description": "[%]",
    }
    assert row["properties"]["flight_id"] == {"type": "string", "minLength": 1}
    assert row["additionalProperties"] is False
    [model] = document["paths"]["/v1/{model}/predict"]["post"]["parameters"]
    assert model["schema"]["enum"] == ["flights"]
    statuses = {
        path: {method: sorted(described["responses"]) for method, described in methods.items()}
        for path, methods in document["paths"].items()
        if path.startswith(("/healthz", "/readyz", "/v1/{model}/"))
    }
    reading = ["200", "401", "403", "404", "405", "429", "500", "503"]
    writing = sorted([*reading, "400", "408", "413", "415", "422"])
    assert statuses == {
        "/healthz": {"get": ["200", "405", "500", "503"]},
        "/readyz": {"get": ["200", "405", "500", "503"]},
        "/v1/{model}/metadata": {"get": reading},
        "/v1/{model}/predictions/{prediction_id}": {"get": reading},
        "/v1/{model}/predict": {"post": writing},
        "/v1/{model}/labels": {"post": writing},
        "/v1/{model}/explain": {"post": writing},
    }
    references = set(
        re.findall(r'"\$ref":"#/components/schemas/(\w+)"', orjson.dumps(document).decode())
    )
    assert references <= set(document["components"]["schemas"])
    assert '"#/$defs' not in orjson.dumps(document).decode()


def test_more_requests_than_can_be_under_way_are_told_to_come_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = world.config.serving.max_ongoing_requests
    row = make_rows(world.config.contract, 1)
    go_on = threading.Event()
    answers: list[Any] = []

    score = RowPath.score

    def wait_and_score(*given: Any) -> Any:
        assert go_on.wait(30)
        return score(*given)

    monkeypatch.setattr(RowPath, "score", wait_and_score)
    callers = [
        threading.Thread(target=lambda: answers.append(post(world, row))) for _ in range(2 * most)
    ]
    for caller in callers:
        caller.start()
    wait_until(lambda: len(answers) == most)

    assert {answer.status_code for answer in answers} == {503}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    assert world.client.get("/healthz").status_code == 200, "it lives while it is busy"
    go_on.set()
    for caller in callers:
        caller.join()
    assert [answer.status_code for answer in answers[most:]] == [200] * most

"""Explanations over HTTP: they add up, tell only what is public, and leave no trace."""

import asyncio
import json
import math
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.config import Config
from app.contracts.access import Limits
from app.contracts.rows import Contract
from app.data.tables import NAMES
from app.serving.api import build_api
from app.serving.desk import Desk
from app.serving.explain_messages import ExplainResponse
from app.serving.explaining import Explaining
from app.serving.messages import ErrorResponse, Refused
from tests.serving_world import make_bundle, make_rows, make_table
from tests.unit.serving.conftest import World, open_world

EXPLAIN = "/v1/flights/explain"
PREDICT = "/v1/flights/predict"


def ask(world: World, rows: list[Any], **more: Any) -> Any:
    return world.client.post(EXPLAIN, json={"rows": rows, **more})


@pytest.fixture
def guarded_world(flights: Config) -> Iterator[World]:
    """A champion that learns from columns that are not public, and rounds what it says."""
    given = flights.contract.model_dump()
    for column in given["columns"]:
        if column["name"] in ("plane_age", "carrier"):
            column["privacy"] = "quasi"
    changes = {
        "contract": Contract.model_validate(given),
        "serving": flights.serving.model_copy(update={"round_probability_digits": 3}),
    }
    with open_world(flights.model_copy(update=changes)) as world:
        world.promote(seed=1)
        yield world


def test_reference_and_attributions_add_up_to_the_log_odds_of_the_prediction(world: World) -> None:
    rows = make_rows(world.config.contract, 3)
    answer = ask(world, rows, request_id="e1")
    assert answer.status_code == 200, answer.text
    body = ExplainResponse.model_validate(answer.json())
    predicted = world.client.post(PREDICT, json={"rows": rows}).json()

    assert (body.model, body.version, body.generation) == ("flights", world.champion, 1)
    assert body.request_id == "e1"
    assert body.scale == "log-odds of the calibrated probability"
    for one, prediction in zip(body.explanations, predicted["predictions"], strict=True):
        assert one.row_id == prediction["row_id"]
        assert one.probability == pytest.approx(prediction["probability"], abs=1e-6)
        assert one.value == pytest.approx(math.log(one.probability / (1 - one.probability)))
        total = body.reference.value + sum(each.attribution for each in one.attributions)
        assert abs(one.value - total) <= one.tolerance <= 1e-4
        assert one.residual == one.value - total
        sizes = [abs(each.attribution) for each in one.attributions]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] > 1e-3


def test_every_feature_and_nothing_else_is_told_with_the_rows_and_the_references_value(
    world: World,
) -> None:
    contract = world.config.contract
    rows = make_rows(contract, 4)
    body = ExplainResponse.model_validate(ask(world, rows).json())
    features = {column.name for column in contract.features}
    assert {each.column for each in body.reference.columns} == features
    for one, row in zip(body.explanations, rows, strict=True):
        assert {each.column: each.value for each in one.attributions} == {
            n: row[n] for n in features
        }
    reference = {each.column: each.value for each in body.reference.columns}
    distances = make_table(contract, 400)["distance"].to_numpy()
    assert reference["distance"] == pytest.approx(float(np.median(distances)), rel=0.02)
    assert reference["origin"] in ("EWR", "JFK", "LGA")


def test_the_reference_sent_as_a_row_is_explained_by_nothing(world: World) -> None:
    [row] = make_rows(world.config.contract, 1)
    reference = ask(world, [row]).json()["reference"]
    middle = row | {each["column"]: each["value"] for each in reference["columns"]}
    [one] = ask(world, [middle]).json()["explanations"]
    # A median goes through a float32 on its way: a rounding of it may be left.
    assert max(abs(each["attribution"]) for each in one["attributions"]) < 1e-5
    assert one["probability"] == pytest.approx(reference["probability"], abs=1e-6)


def test_the_same_row_is_explained_by_the_same_bytes(world: World) -> None:
    rows = make_rows(world.config.contract, 3)
    first = ask(world, rows, request_id="same")
    assert ask(world, rows, request_id="same").content == first.content
    alone = ask(world, rows[1:2]).json()["explanations"]
    assert alone == first.json()["explanations"][1:2]


def test_values_that_are_not_public_are_not_told_and_figures_are_rounded(
    guarded_world: World,
) -> None:
    rows = make_rows(guarded_world.config.contract, 2)
    for row in rows:
        row |= {"carrier": "carrier-SECRET", "plane_age": 31.4159, "tail": "N12345SECRET"}
    answer = ask(guarded_world, rows)
    body = ExplainResponse.model_validate(answer.json())
    assert "SECRET" not in answer.text
    assert "31.4159" not in answer.text
    for told in (body.reference.columns, *(one.attributions for one in body.explanations)):
        hidden = {each.column: each.value for each in told if not each.shown}
        assert hidden == {"carrier": None, "plane_age": None}
    for one in body.explanations:
        shares = {each.column: each.attribution for each in one.attributions}
        assert "tail" not in shares
        assert shares["plane_age"] != 0
        figures = [one.probability, one.value, *shares.values()]
        assert figures == [round(figure, 3) for figure in figures]
        total = body.reference.value + sum(shares.values())
        assert abs(one.value - total) <= one.tolerance < 0.03


def test_what_is_explained_is_not_logged(world: World) -> None:
    rows = make_rows(world.config.contract, 3)
    rows[0]["distance"] = -1.0
    answer = ask(world, rows).json()
    assert [one["row"] for one in answer["rejected"]] == [0]
    assert "distance" in answer["rejected"][0]["reasons"][0]
    assert [one["row_id"] for one in answer["explanations"]] == ["row-1", "row-2"]
    assert [name for name in NAMES if world.logged(name).num_rows] == []


def test_a_version_beside_the_champion_explains_itself(world: World) -> None:
    first, rows = world.champion, make_rows(world.config.contract, 1)
    before = ask(world, rows).json()
    second = world.promote(seed=2)
    now, old = ask(world, rows).json(), ask(world, rows, version=first).json()
    assert (now["version"], old["version"]) == (second, first)
    assert (now["generation"], old["generation"]) == (2, 2)
    assert old["explanations"] == before["explanations"] != now["explanations"]
    expected = make_bundle(world.config.contract, seed=2)
    assert now["explanations"][0]["probability"] == pytest.approx(
        expected.predict(make_table(world.config.contract, 1))[0], abs=1e-6
    )
    strange = ask(world, rows, version="f" * 64)
    assert strange.status_code == 404
    assert ErrorResponse.model_validate(strange.json()).error.where == "version"


HOSTILE = [
    (b"", 400),
    (b'{"rows": []}', 400),
    (b'{"rows": {}}', 400),
    (b'{"rows": [NaN]}', 400),
    (b'{"rows": [{}], "version": 3}', 400),
    (b'{"rows": [{}], "version": ""}', 400),
    (b'{"rows": [{}], "idempotency_keys": ["a"]}', 400),
    (b'{"rows": [{}], "class": "a"}', 400),
    (b'{"rows": [{}]}', 422),
    (b'{"rows": [null, 1, "a", [], true]}', 422),
    (b'{"rows": [{"flight_id": "a", "distance": 1e999}]}', 400),
    (b'{"rows": [{"flight_id": "a", "distance": 1e308, "origin": "\\u0000"}]}', 422),
    (b'{"rows": [' + b"{}," * 16 + b"{}]}", 413),
    (b'{"rows": ["' + b"x" * 2**20 + b'"]}', 413),
    (b'{"rows": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
    (b'{"rows": [{}], "version": "../../etc/passwd"}', 404),
]


def test_what_cannot_be_explained_is_refused_and_says_why(world: World) -> None:
    for body, status in HOSTILE:
        answer = world.client.post(EXPLAIN, content=body)
        assert answer.status_code == status, (body[:60], answer.text)
        assert ErrorResponse.model_validate(answer.json()).error.change
    row = make_rows(world.config.contract, 1)
    assert world.client.get(EXPLAIN).status_code == 405
    assert world.client.post("/v1/boats/explain", json={"rows": row}).status_code == 404
    text = {"content-type": "text/plain"}
    assert world.client.post(EXPLAIN, content=b"{}", headers=text).status_code == 415


def test_extreme_and_unseen_values_are_explained_all_the_same(world: World) -> None:
    rows = make_rows(world.config.contract, 2)
    contract = world.config.contract
    for column in contract.columns:
        if column.kind == "category" and column.categories is None:
            rows[0][column.name] = "never seen before"
        if column.kind == "number" and column.maximum is not None:
            rows[0][column.name] = column.maximum
        if column.nullable:
            rows[1][column.name] = None
    body = ExplainResponse.model_validate(ask(world, rows).json())
    for one in body.explanations:
        assert abs(one.residual) <= one.tolerance


def test_only_the_role_explain_may_ask(world: World) -> None:
    stranger = TestClient(build_api(world.replica), raise_server_exceptions=False)
    rows, now = {"rows": make_rows(world.config.contract, 1)}, datetime.now(UTC)
    assert stranger.post(EXPLAIN, json=rows).status_code == 401
    for role, status in (("predict", 403), ("audit", 403), ("explain", 200)):
        key = world.keyring.create(role, [role], now).get_secret_value()
        answer = stranger.post(EXPLAIN, json=rows, headers={"x-api-key": key})
        assert answer.status_code == status, role


def test_explained_rows_count_against_the_day(world: World) -> None:
    limits = Limits(rows_per_day=3)
    key = world.keyring.create("few", ["explain"], datetime.now(UTC), limits=limits)
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"}
    rows = {"rows": make_rows(world.config.contract, 2)}
    answers = [world.client.post(EXPLAIN, json=rows, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert int(answers[1].headers["retry-after"]) > 0


def test_without_a_champion_it_is_503(empty_world: World) -> None:
    answer = ask(empty_world, make_rows(empty_world.config.contract, 1))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


def test_more_than_may_be_under_way_are_told_to_come_again_and_predictions_go_on(
    world: World,
) -> None:
    predictor, serving = world.replica.predictor, world.config.serving
    explaining = Explaining(predictor, Desk(serving))
    rows = make_rows(world.config.contract, 1)

    body = json.dumps({"rows": rows}).encode()
    may_go_on = threading.Event()

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def scene() -> None:
        scope = {"type": "http", "headers": []}
        explaining._worker.submit(may_go_on.wait)
        held = [
            asyncio.create_task(explaining.answer(scope, receive))
            for _ in range(serving.explain_max_ongoing)
        ]
        await asyncio.sleep(0.01)
        with pytest.raises(Refused, match="2 explanations under way") as refused:
            await explaining.answer(scope, receive)
        assert refused.value.status == 503
        assert refused.value.headers == {"Retry-After": "1"}
        answer = await asyncio.to_thread(world.client.post, PREDICT, json={"rows": rows})
        assert answer.status_code == 200
        may_go_on.set()
        assert len(await asyncio.gather(*held)) == 2
        # There is a place again.
        assert await explaining.answer(scope, receive)

    asyncio.run(scene())


def test_the_schema_bounds_the_rows_and_documents_every_status(world: World) -> None:
    described = world.client.get("/openapi.json").json()["paths"]["/v1/{model}/explain"]["post"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["rows"]["maxItems"] == 16
    assert schema["properties"]["rows"]["items"]["additionalProperties"] is False
    statuses = (200, 400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 500, 503)
    assert sorted(map(int, described["responses"])) == list(statuses)
    assert described["security"]

"""The guard at the endpoint: what an odd row's answer says, and what the log keeps of it."""

from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.sections import GuardConfig
from app.serving.api import build_api
from app.serving.messages import PredictResponse
from tests.serving_world import make_bundle, make_rows
from tests.unit.serving.conftest import World

PREDICT = "/v1/flights/predict"


def client_with(world: World, **policies: Any) -> TestClient:
    guard = GuardConfig.model_validate(policies)
    serving = world.config.serving.model_copy(update={"guard": guard})
    config = world.config.model_copy(update={"serving": serving, "clock": "wall"})
    world.replica.predictor = replace(world.replica.predictor, config=config)
    headers = {"Authorization": world.client.headers["Authorization"]}
    return TestClient(build_api(world.replica), headers=headers)


def odd_rows(world: World, number: int) -> list[dict[str, Any]]:
    """Make rows of which the second lies beyond training and the last names a new carrier."""
    rows = make_rows(world.config.contract, number)
    edges = {n.name: n.edges for n in make_bundle(world.config.contract, 1).encoder.numbers}
    rows[1]["distance"] = edges["distance"][-1] + 1.0
    rows[-1]["carrier"] = "never seen"
    return rows


BEYOND = {"column": "distance", "why": "is over the greatest value of training"}
NEW = {"column": "carrier", "why": "is not among the values that the model knows"}


# Value by value, and by column.
@pytest.mark.parametrize("number", [4, 40])
def test_odd_rows_are_answered_with_flags_and_others_without(world: World, number: int) -> None:
    client = client_with(world, range="flag", unseen="flag")

    answer = client.post(PREDICT, json={"rows": odd_rows(world, number)})

    body = PredictResponse.model_validate(answer.json())
    assert len(body.predictions) == number
    flags = [item.get("flags") for item in answer.json()["predictions"]]
    assert (flags[1], flags[-1]) == ([BEYOND], [NEW])
    assert flags.count(None) == number - 2
    assert world.logged("predictions").num_rows == number


@pytest.mark.parametrize("number", [4, 40])
def test_a_row_that_the_model_is_silent_on_is_rejected_and_quarantined(
    world: World, number: int
) -> None:
    client = client_with(world, range="clip", unseen="abstain")
    rows = odd_rows(world, number)

    body = client.post(PREDICT, json={"rows": rows}).json()

    assert len(body["predictions"]) == number - 1
    assert body["predictions"][1]["flags"] == [BEYOND]
    reason = "carrier is not among the values that the model knows"
    assert body["rejected"] == [{"row": number - 1, "reasons": [reason]}]
    assert world.logged("quarantine")["reasons"].to_pylist() == [[reason]]
    events = world.logged("events")
    assert events["distance"].to_pylist()[1] == rows[1]["distance"], "the log keeps what came"


def test_one_row_refuses_the_request_and_nothing_else_of_it_is_kept(world: World) -> None:
    client = client_with(world, range="refuse")

    answer = client.post(PREDICT, json={"rows": odd_rows(world, 4)})

    assert answer.status_code == 422
    assert answer.json()["error"]["got"] == "1 of 4 are not acceptable and none was scored"
    assert answer.json()["rejected"][0]["reasons"] == [f"distance {BEYOND['why']}"]
    assert [item["row"] for item in answer.json()["rejected"]] == [1]
    assert world.logged("quarantine").num_rows == 1
    assert world.logged("events").num_rows == 0


def test_by_default_odd_rows_are_answered_as_ever(world: World) -> None:
    answer = client_with(world).post(PREDICT, json={"rows": odd_rows(world, 4)}).json()
    assert [sorted(item) for item in answer["predictions"]] == [
        ["prediction_id", "probability", "row_id"]
    ] * 4


def test_a_new_champion_is_guarded_by_what_it_has_learned_itself(world: World) -> None:
    client = client_with(world, range="flag")
    before = client.post(PREDICT, json={"rows": odd_rows(world, 4)}).json()
    world.promote(seed=2)
    after = client.post(PREDICT, json={"rows": odd_rows(world, 4)}).json()

    assert before["version"] != after["version"]
    assert [answer["predictions"][1]["flags"] for answer in (before, after)] == [[BEYOND]] * 2

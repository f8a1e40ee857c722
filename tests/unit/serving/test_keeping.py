"""A spool that takes no more: by policy nothing is answered, or what is answered is counted."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from app.config import Config
from app.ledger.losses import read_losses
from app.sections import CaptureConfig
from tests.serving_world import give_roles, make_rows, make_table, put_version
from tests.unit.serving.conftest import World, open_world, wait_until
from tests.unit.serving.test_bulk import ARROW, read, stream

PREDICT = "/v1/flights/predict"
NUM_REQUESTS = 60


def small(config: Config, policy: Any) -> Config:
    """A replica on a wall clock whose spool takes some tens of kilobytes."""
    capture = CaptureConfig(when_full=policy, max_spool_mb=0.03)
    serving = config.serving.model_copy(update={"capture": capture})
    return config.model_copy(update={"serving": serving, "clock": "wall"})


@pytest.fixture
def refusing(flights: Config) -> Iterator[World]:
    with open_world(small(flights, "refuse")) as world:
        world.promote(seed=1)
        yield world


@pytest.fixture
def answering(flights: Config) -> Iterator[World]:
    with open_world(small(flights, "answer")) as world:
        world.promote(seed=1)
        yield world


def ask(world: World, number: int, first: int = 0) -> list[Any]:
    rows = [make_rows(world.config.contract, 1, first=first + n) for n in range(number)]
    return [world.client.post(PREDICT, json={"rows": each}) for each in rows]


def metadata(world: World) -> dict[str, Any]:
    told: dict[str, Any] = world.client.get("/v1/flights/metadata").json()
    return told


def test_what_is_answered_is_kept_or_counted_as_lost_and_never_both(answering: World) -> None:
    answers = ask(answering, NUM_REQUESTS)

    assert {answer.status_code for answer in answers} == {200}
    unkept = [a.json()["predictions"][0]["row_id"] for a in answers if "kept" in a.json()]
    assert 0 < len(unkept) < NUM_REQUESTS
    assert {a.json()["kept"] for a in answers if "kept" in a.json()} == {False}
    told = metadata(answering)
    assert told["lost"] == {"events": len(unkept), "predictions": len(unkept)}
    assert told["waiting_bytes"] > 0
    kept = answering.logged("predictions")["row_id"].to_pylist()
    assert sorted(kept + unkept) == sorted(f"row-{n}" for n in range(NUM_REQUESTS))
    sys.stdout.write(f"{NUM_REQUESTS} sent = {len(kept)} kept + {len(unkept)} lost\n")


def test_once_there_is_room_rows_are_kept_again_and_the_loss_is_in_the_ledger(
    answering: World,
) -> None:
    ask(answering, NUM_REQUESTS)
    lost = metadata(answering)["lost"]
    answering.replica.ship()

    [after] = ask(answering, 1, first=NUM_REQUESTS)

    assert "kept" not in after.json()
    assert metadata(answering)["lost"] == lost

    def reported() -> dict[str, int]:
        found = read_losses(answering.ledger, "flights")
        assert {loss.reason for loss in found} <= {"spool_full"}
        return {loss.table: loss.num_rows for loss in found}

    wait_until(lambda: reported() == lost)


def test_every_protocol_says_that_an_answer_was_not_kept(answering: World) -> None:
    ask(answering, NUM_REQUESTS)
    contract = answering.config.contract
    table = make_table(contract, 40, first=1000)

    answer = answering.client.post(PREDICT, content=stream(table), headers=ARROW)
    told, predictions = read(answer)
    assert (told["kept"], predictions.num_rows) == ("false", 40)
    many = {"rows": make_rows(contract, 40, first=2000)}
    assert answering.client.post(PREDICT, json=many).json()["kept"] is False
    inputs = [
        {"name": name, "shape": [1], "datatype": kind, "data": [value]}
        for name, value in make_rows(contract, 1, first=3000)[0].items()
        for kind in ["FP64" if isinstance(value, float) else "BYTES"]
        if value is not None
    ]
    inferred = answering.client.post("/v2/models/flights/infer", json={"inputs": inputs})
    assert inferred.status_code == 200, inferred.text
    assert inferred.json()["parameters"]["kept"] is False
    assert metadata(answering)["lost"]["events"] >= 81


def test_outcomes_that_cannot_be_kept_are_refused_under_either_policy(answering: World) -> None:
    ask(answering, NUM_REQUESTS)
    labels = {"labels": [{"row_id": f"row-{n}", "label": 1} for n in range(200)]}

    answer = answering.client.post("/v1/flights/labels", json=labels)

    assert (answer.status_code, answer.json()["error"]["where"]) == (503, "spool")
    assert "labels" not in metadata(answering)["lost"]


def test_refusing_answers_only_what_is_kept(refusing: World) -> None:
    answers = ask(refusing, NUM_REQUESTS)

    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    assert {a.headers.get("retry-after") for a in answers if a.status_code == 503} == {"1"}
    kept = refusing.logged("predictions")["row_id"].to_pylist()
    answered = [a.json()["predictions"][0]["row_id"] for a in answers if a.status_code == 200]
    assert sorted(kept) == sorted(answered)
    assert metadata(refusing)["lost"] == {}
    assert [a.status_code for a in ask(refusing, 1, first=1000)] == [200]


def test_shadows_leave_the_last_of_the_spools_room_to_answers(answering: World) -> None:
    shadow = put_version(answering.config, answering.ledger, seed=2)
    give_roles(answering.ledger, "flights", answering.champion, shadow=shadow)
    wait_until(lambda: metadata(answering).get("shadow") is not None)
    spool = answering.replica.predictor.spool
    number = 0
    while not spool.is_short:
        [answer] = ask(answering, 1, first=number)
        assert "kept" not in answer.json()
        number += 1
    wait_until(lambda: metadata(answering)["shadow"]["waiting"] == 0)
    before = metadata(answering)

    [answer] = ask(answering, 1, first=number)

    assert "kept" not in answer.json()
    wait_until(lambda: metadata(answering)["shadow"]["waiting"] == 0)
    after = metadata(answering)
    assert after["shadow"]["dropped"] == before["shadow"]["dropped"] + 1
    assert after["shadow"]["scored"] == before["shadow"]["scored"]
    assert "shadows" not in after["lost"]


def test_an_answer_that_was_kept_says_nothing_of_it(answering: World) -> None:
    [answer] = ask(answering, 1)
    assert "kept" not in answer.json()
    table = make_table(answering.config.contract, 2, first=10)
    told, _ = read(answering.client.post(PREDICT, content=stream(table), headers=ARROW))
    assert "kept" not in told

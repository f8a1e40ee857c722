"""Small requests are answered on the event loop, together where they wait together."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from app.config import Config
from app.serving.api import build_api
from app.serving.capture import Spool, SpoolRefused
from app.serving.messages import ErrorResponse, PredictResponse
from app.serving.predictor import Predictor
from app.serving.rowpath import RowPath
from tests.serving_world import make_bundle, make_rows, make_table
from tests.unit.serving.conftest import World, open_world

PREDICT = "/v1/flights/predict"


@pytest.fixture
def prompt(flights: Config) -> Iterator[World]:
    """A replica with a champion, on the machine's clock: nothing is waited for."""
    with open_world(flights.model_copy(update={"clock": "wall"})) as world:
        world.promote(seed=1)
        assert world.replica.predictor.is_prompt
        yield world


def ask_together(world: World, bodies: list[Any]) -> list[httpx.Response]:
    """Send requests at the same moment, on one event loop."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(build_api(world.replica))
        headers = {"Authorization": world.client.headers["Authorization"]}
        client = httpx.AsyncClient(transport=transport, base_url="http://here", headers=headers)
        async with client:
            return await asyncio.gather(*(client.post(PREDICT, json=body) for body in bodies))

    return asyncio.run(ask())


def spy(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[int]:
    """Note how many each call of a method was about."""
    method, sizes = getattr(owner, name), []

    def spying(self: Any, first: Any, *more: Any) -> Any:
        sizes.append(len(first))
        return method(self, first, *more)

    monkeypatch.setattr(owner, name, spying)
    return sizes


def test_callers_at_the_same_moment_each_get_their_own_answer_from_shared_batches(
    prompt: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract, number = prompt.config.contract, 40
    batches = spy(monkeypatch, Predictor, "predict_together")
    bodies = [
        {"rows": [row], "request_id": f"q{i}"} for i, row in enumerate(make_rows(contract, number))
    ]

    answers = [PredictResponse.model_validate(a.json()) for a in ask_together(prompt, bodies)]

    expected = make_bundle(contract, seed=1).predict(make_table(contract, number))
    given = [answer.predictions[0].probability for answer in answers]
    np.testing.assert_allclose(given, expected, atol=1e-6)
    assert [answer.request_id for answer in answers] == [f"q{i}" for i in range(number)]
    assert [a.predictions[0].row_id for a in answers] == [f"row-{i}" for i in range(number)]
    assert sum(batches) == number
    assert 1 < max(batches) <= 16
    logged = prompt.logged("predictions")
    assert sorted(logged["prediction_id"].to_pylist()) == sorted(
        answer.predictions[0].prediction_id for answer in answers
    )
    assert prompt.logged("events").num_rows == number


def test_one_bad_row_neither_harms_nor_delays_its_neighbours_answers(prompt: World) -> None:
    rows = make_rows(prompt.config.contract, 4)
    rows[1]["distance"] = "far"
    rows[2]["surplus"] = 1

    answers = ask_together(prompt, [{"rows": [row]} for row in rows])

    assert [answer.status_code for answer in answers] == [200, 422, 422, 200]
    assert prompt.logged("events").num_rows == 2
    assert prompt.logged("quarantine").num_rows == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"rows": []}', 400),
        (b'{"rows": [NaN]}', 400),
        (b'{"rows": [1], "idempotency_keys": []}', 400),
        (b'{"rows": [null]}', 422),
        (b" " * (2**20 + 1), 413),
    ],
)
def test_a_bad_body_is_refused_with_its_status(prompt: World, body: bytes, status: int) -> None:
    answer = prompt.client.post(
        PREDICT, content=body, headers={"Content-Type": "application/json; charset=utf-8"}
    )
    assert answer.status_code == status, answer.text
    ErrorResponse.model_validate(answer.json())


def test_the_first_bad_key_ends_a_body_of_many(prompt: World) -> None:
    body = b'{"rows": [1], "idempotency_keys": [' + b"1," * 100_000 + b"1]}"
    answer = prompt.client.post(PREDICT, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "idempotency_keys.0" in answer.text
    assert "idempotency_keys.1" not in answer.text


def test_a_fault_is_json_and_holds_nothing_of_its_cause(
    prompt: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> Any:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(RowPath, "score", fail)
    answer = prompt.client.post(PREDICT, json={"rows": make_rows(prompt.config.contract, 1)})

    assert answer.status_code == 500
    assert ErrorResponse.model_validate(answer.json()).error.where == "server"
    assert "secret" not in answer.text


def test_a_fault_over_one_row_is_not_its_neighbours(
    prompt: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = RowPath.score

    def fail_over_one(self: RowPath, champion: Any, rows: list[Any]) -> list[float]:
        if "row-1" in self.ids(rows):
            raise ZeroDivisionError
        return score(self, champion, rows)

    monkeypatch.setattr(RowPath, "score", fail_over_one)
    rows = make_rows(prompt.config.contract, 4)
    answers = ask_together(prompt, [{"rows": [row]} for row in rows])
    assert [answer.status_code for answer in answers] == [200, 500, 200, 200]
    assert prompt.logged("predictions").num_rows == 3


def test_nothing_is_answered_that_could_not_be_kept(
    prompt: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise SpoolRefused("no space left", "disk_full")

    monkeypatch.setattr(Spool, "append_values", full)
    answer = prompt.client.post(PREDICT, json={"rows": make_rows(prompt.config.contract, 1)})

    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    monkeypatch.undo()
    assert prompt.logged("predictions").num_rows == 0


def test_more_than_may_wait_are_told_to_come_again_and_the_others_answered(prompt: World) -> None:
    most = prompt.config.serving.max_ongoing_requests
    rows = make_rows(prompt.config.contract, 3 * most)

    answers = ask_together(prompt, [{"rows": [row]} for row in rows])

    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= most
    assert {a.headers.get("retry-after") for a in answers if a.status_code == 503} == {"1"}
    assert prompt.logged("predictions").num_rows == statuses.count(200)


def test_a_stranger_is_refused_before_a_row_is_read(
    prompt: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = spy(monkeypatch, RowPath, "read")
    rows = make_rows(prompt.config.contract, 1)
    answer = prompt.client.post(PREDICT, json={"rows": rows}, headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401
    assert read == []

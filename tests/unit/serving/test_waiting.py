"""A line that says how long one more would wait, and a replica that turns some away by it."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from app.config import Config
from app.serving.api import build_api
from app.serving.bulk import ARROW
from app.serving.documentation import JSON
from app.serving.messages import ErrorResponse
from app.serving.waiting import Line
from benchmarks.serving.bodies import stream_of
from tests.serving_world import make_rows, make_table
from tests.unit.serving.conftest import World, open_world


def answer(line: Line, number: int, seconds: float, together: int = 1, at: float = 0.0) -> float:
    """Answer so many, so many at a time, each time in so many seconds; give the time then."""
    for _ in range(number // together):
        for _ in range(together):
            line.enter(at)
        at += seconds
        for _ in range(together):
            line.leave(at)
    return at


def fill(line: Line, number: int, at: float) -> float:
    """Let so many come at once; give what one more would wait."""
    for _ in range(number):
        line.enter(at)
    return line.wait


def test_one_more_waits_as_long_as_those_before_it_take() -> None:
    line = Line()
    at = answer(line, 20, 0.05)
    assert fill(line, 3, at) == pytest.approx(0.15)


def test_nobody_waits_in_an_empty_line_however_slow_it_was() -> None:
    line = Line()
    answer(line, 20, 5.0)
    assert line.wait == 0


def test_those_who_are_answered_together_share_the_seconds() -> None:
    line = Line()
    at = answer(line, 320, 0.08, together=16)
    assert fill(line, 16, at) == pytest.approx(0.08)


def test_idle_time_counts_for_nothing() -> None:
    line = Line()
    for number in range(60):
        answer(line, 1, 0.01, at=100.0 * number)
    assert fill(line, 10, 1e6) == pytest.approx(0.1)


def test_a_first_slow_answer_or_a_pause_of_the_process_turns_nobody_away() -> None:
    line = Line()
    at = answer(line, 1, 3.0)
    assert fill(line, 1, at) == 0
    line.leave(at)
    at = answer(line, 500, 0.001, at=at)
    at = answer(line, 1, 2.0, at=at)
    assert fill(line, 40, at) < 0.05


def test_a_new_pace_is_seen_soon() -> None:
    line = Line()
    at = answer(line, 1000, 0.001)
    at = answer(line, 4, 0.2, at=at)
    assert fill(line, 4, at) == pytest.approx(0.8)
    for _ in range(4):
        line.leave(at)
    at = answer(line, 400, 0.001, at=at)
    assert fill(line, 4, at) < 0.01


@pytest.fixture
def world(flights: Config) -> Iterator[World]:
    """A replica on which every look at the clock takes 50 ms, and that lets nobody wait for it."""
    serving = flights.serving.model_copy(update={"max_wait_ms": 40.0})
    with open_world(flights.model_copy(update={"clock": "wall", "serving": serving})) as world:
        world.promote(seed=1)
        clock = itertools.count()
        world.replica.steady = lambda: 0.05 * next(clock)
        yield world


def ask(world: World, kind: str, number: int) -> list[list[httpx.Response]]:
    """Send requests one after the other, and then as many at the same moment."""
    contract = world.config.contract
    bodies = [make_rows(contract, 1, first=n) for n in range(2 * number)]
    content: list[bytes]
    if kind == JSON:
        content = [json.dumps({"rows": rows}).encode() for rows in bodies]
    else:
        content = [stream_of(make_table(contract, 1, first=n)) for n in range(2 * number)]

    async def send() -> list[list[httpx.Response]]:
        transport = httpx.ASGITransport(build_api(world.replica))
        headers = {**world.client.headers, "content-type": kind}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://here", headers=headers
        ) as client:

            async def post(body: bytes) -> httpx.Response:
                return await client.post("/v1/flights/predict", content=body)

            alone = [await post(body) for body in content[:number]]
            return [alone, await asyncio.gather(*map(post, content[number:]))]

    return asyncio.run(send())


@pytest.mark.parametrize("kind", [JSON, ARROW])
def test_who_would_wait_too_long_is_told_so_at_once_and_the_others_are_answered(
    world: World, kind: str
) -> None:
    alone, together = ask(world, kind, 8)

    assert {answer.status_code for answer in alone} == {200}
    statuses = [answer.status_code for answer in together]
    assert set(statuses) == {200, 503}
    refused = next(answer for answer in together if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    told = ErrorResponse.model_validate_json(refused.content).error
    assert told.where == "server"
    assert "ms of work before this request" in told.got
    assert world.logged("predictions").num_rows == 8 + statuses.count(200)


def test_without_a_bound_all_wait(world: World) -> None:
    predictor = world.replica.predictor
    serving = predictor.config.serving.model_copy(update={"max_wait_ms": None})
    config = predictor.config.model_copy(update={"serving": serving})
    world.replica.predictor = replace(predictor, config=config)
    for answers in ask(world, JSON, 8):
        assert [answer.status_code for answer in answers] == 8 * [200]

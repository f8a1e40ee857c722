"""A request that the edge tries twice names its rows the same both times, and no other rows."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from app.config import Config
from app.contracts.rows import Contract
from app.data.facts import distinct_events, event_facts
from app.data.snapshots import take_snapshot
from app.monitoring.as_known import Question, performance_as_known, read_logs
from app.monitoring.tail import Tail
from app.serving.api import build_api
from app.serving.messages import PredictRequest
from app.serving.replica import Replica
from app.serving.retries import Namer
from tests.serving_world import make_rows, make_table
from tests.unit.serving.conftest import World, open_world
from tests.unit.serving.test_bulk import ARROW, stream

ASKED, OTHER = "5f0c9a3be7d64c0f8a3d1b2e4c5d6f70", "00000000-1111-2222-3333-444444444444"
PREDICT = "/v1/flights/predict"


def generating(config: Config, *, times: bool = False) -> Contract:
    """The contract with ids, and perhaps times, that are made on arrival."""
    given, made = config.contract.model_dump(), {config.contract.id}
    if times:
        made.add(config.contract.event_time)
    for column in given["columns"]:
        column["generated"] = column["name"] in made
    return Contract.model_validate(given)


@pytest.fixture(params=["wall", "driven"])
def nameless(flights: Config, request: pytest.FixtureRequest) -> Iterator[World]:
    """A replica that makes ids; on the event loop, or in a thread where the clock is driven."""
    update = {"contract": generating(flights), "clock": request.param}
    with open_world(flights.model_copy(update=update)) as world:
        world.promote(seed=1)
        yield world


def nameless_rows(world: World, number: int) -> list[dict[str, Any]]:
    rows = make_rows(world.config.contract, number)
    return [{k: v for k, v in row.items() if k != "flight_id"} for row in rows]


def names(world: World, body: dict[str, Any], asked: str | None) -> list[str]:
    headers = {} if asked is None else {"X-Request-ID": asked}
    answer = world.client.post(PREDICT, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return [item["row_id"] for item in answer.json()["predictions"]]


def test_a_second_try_is_logged_under_the_names_of_the_first(nameless: World) -> None:
    body = {"rows": nameless_rows(nameless, 3)}

    first, second = names(nameless, body, ASKED), names(nameless, body, ASKED)

    assert first == second
    assert len(set(first)) == 3
    logged = nameless.logged("predictions")
    assert sorted(logged["idempotency_key"].to_pylist()) == sorted(first + second)
    assert len(set(logged["prediction_id"].to_pylist())) == 3


@pytest.mark.parametrize("asked", [None, "1", "a" * 129, "x y" * 10, "ü" * 20])
def test_what_is_no_id_of_a_request_names_nothing(nameless: World, asked: str | None) -> None:
    body = {"rows": nameless_rows(nameless, 2)}
    sent = None if asked is None else asked.encode().decode("latin-1")
    headers = {} if sent is None else {"X-Request-ID": sent.encode("latin-1")}
    found = []
    for _ in range(2):
        answer = nameless.client.post(PREDICT, json=body, headers=headers)  # type: ignore[arg-type]
        found += [item["row_id"] for item in answer.json()["predictions"]]
    assert len(set(found)) == 4


def test_another_request_or_another_body_has_other_names(nameless: World) -> None:
    rows = nameless_rows(nameless, 2)
    found = names(nameless, {"rows": rows}, ASKED)
    found += names(nameless, {"rows": rows}, OTHER)
    # Some clients say one request id all day.
    found += names(nameless, {"rows": rows[::-1]}, ASKED)
    assert len(set(found)) == 6


def test_a_clients_own_ids_and_keys_are_kept(nameless: World) -> None:
    first, second = nameless_rows(nameless, 2)
    mixed = names(nameless, {"rows": [first, {**second, "flight_id": "mine"}]}, ASKED)
    assert mixed[1] == "mine"
    assert mixed[0] != "mine"

    keyed = {"rows": [first], "idempotency_keys": ["k1"]}
    assert names(nameless, keyed, ASKED) == names(nameless, keyed, OTHER)
    assert "k1" in nameless.logged("predictions")["idempotency_key"].to_pylist()


def test_rows_that_must_bring_their_id_are_left_alone(flights: Config) -> None:
    request = PredictRequest(rows=[{"distance": 1}, 7])
    headers = [(b"x-request-id", ASKED.encode())]
    assert Namer(flights.contract).name(request, b"", headers) is request

    named = Namer(generating(flights)).name(request, b"", headers)
    assert named.rows[1] == 7
    assert set(named.rows[0]) == {"distance", "flight_id"}
    assert request.rows[0] == {"distance": 1}, "a client's row is left as it is"


def test_two_ids_of_a_request_are_none(flights: Config) -> None:
    request = PredictRequest(rows=[{"distance": 1}])
    headers = [(b"x-request-id", ASKED.encode()), (b"x-request-id", OTHER.encode())]
    assert Namer(generating(flights)).name(request, b"", headers) is request


def test_a_second_try_of_columns_without_ids_is_logged_under_the_names_of_the_first(
    nameless: World,
) -> None:
    table = make_table(nameless.config.contract, 3).drop_columns(["flight_id"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    headers = {"content-type": "application/vnd.apache.arrow.stream", "x-request-id": ASKED}
    body = sink.getvalue().to_pybytes()

    answers = [nameless.client.post(PREDICT, content=body, headers=headers) for _ in range(2)]
    other = nameless.client.post(PREDICT, content=body, headers={**headers, "x-request-id": OTHER})

    first, second, third = (
        pa.ipc.open_stream(answer.content).read_all()["row_id"].to_pylist()
        for answer in (*answers, other)
    )
    assert first == second
    assert len({*first, *third}) == 6


def test_a_second_try_of_tensors_without_ids_names_the_same_rows(nameless: World) -> None:
    (row,) = nameless_rows(nameless, 1)
    contract = nameless.config.contract
    inputs = [
        {
            "name": name,
            "shape": [1],
            "datatype": "FP64" if contract.by_name[name].kind == "number" else "BYTES",
            "data": [value],
        }
        for name, value in row.items()
    ]

    def ids(asked: str) -> object:
        headers = {"x-request-id": asked}
        path = "/v2/models/flights/infer"
        answer = nameless.client.post(path, json={"inputs": inputs}, headers=headers)
        assert answer.status_code == 200, answer.text
        outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
        return outputs["row_id"]

    assert ids(ASKED) == ids(ASKED)
    assert ids(ASKED) != ids(OTHER)


@dataclass
class Second:
    """Another replica of the same workspace."""

    replica: Replica
    client: TestClient


@pytest.fixture
def two(flights: Config) -> Iterator[tuple[World, Second]]:
    """Two replicas of one workspace that make ids and times."""
    contract = generating(flights, times=True)
    config = flights.model_copy(update={"contract": contract, "clock": "wall"})
    with open_world(config) as world:
        world.promote(seed=1)
        replica = Replica(world.config, wall=time.time, steady=time.monotonic)
        replica.start()
        with TestClient(build_api(replica), headers=world.client.headers) as client:
            yield world, Second(replica, client)
        replica.stop()


def ask_in_every_way(world: World, client: TestClient, headers: dict[str, str]) -> int:
    """Ask for rows without ids and times; returns how many."""
    contract = world.config.contract
    sizes = (2, 40)
    for size in sizes:
        rows = [
            {name: cell for name, cell in row.items() if name not in contract.generated}
            for row in make_rows(contract, size, first=size)
        ]
        answer = client.post(PREDICT, json={"rows": rows}, headers=headers)
        assert answer.status_code == 200, answer.text
    columns = make_table(contract, 5, first=500).drop_columns(list(contract.generated))
    answer = client.post(PREDICT, content=stream(columns), headers=headers | ARROW)
    assert answer.status_code == 200, answer.text
    return sum(sizes) + 5


def test_what_two_replicas_answered_of_one_request_counts_once_for_all_who_read(
    two: tuple[World, Second],
) -> None:
    world, second = two
    tables, config = world.tables, world.config
    headers = {"X-Request-ID": ASKED, "X-Request-Start": f"t={time.time() - 3:.3f}"}
    number = ask_in_every_way(world, world.client, headers)
    assert ask_in_every_way(world, second.client, headers) == number
    world.replica.ship()
    second.replica.ship()
    assert tables.read("predictions").num_rows == tables.read("events").num_rows == 2 * number

    tail, end = Tail(config, world.ledger), datetime.now(UTC) + timedelta(days=1)
    tail.tick(datetime.now(UTC), {})
    counts = tail.state.counts
    question = Question(start=end - timedelta(days=3), end=end, at=end)
    logs = read_logs(tables, question, config.monitoring)
    known = performance_as_known(question, *logs, "flights", config.monitoring)
    snapshot = take_snapshot(tables, config.contract, None, end, end)
    facts = distinct_events(event_facts(tables.read("events"), config.contract))

    assert (counts.num_predictions, counts.num_repeated_predictions) == (number, number)
    assert counts.num_events == number
    assert known.num_predictions == number
    assert snapshot.num_rows == number
    assert facts.num_rows == number


@pytest.mark.parametrize(
    "told",
    ["t=1000000000.000", "1000000000.000", "t=later", "t=99999999999.000", ""],
    ids=["long ago", "no mark", "no number", "to come", "nothing"],
)
def test_a_time_that_cannot_be_that_of_a_request_is_passed_over(flights: Config, told: str) -> None:
    namer = Namer(generating(flights, times=True), wall=lambda: 2_000_000_000.0)
    request = PredictRequest(rows=[{}])
    assert namer.name(request, b"", [(b"x-request-start", told.encode())]) is request


def test_a_time_of_the_edge_is_none_of_a_driven_clocks_and_none_of_a_clients(
    flights: Config,
) -> None:
    contract = generating(flights, times=True)
    headers, now = [(b"x-request-start", b"t=2000000000.000")], 2_000_000_001.0
    name = contract.event_time
    own = PredictRequest(rows=[{name: "2013-04-01T06:00:00Z"}, {}])

    assert Namer(contract).name(own, b"", headers) is own
    rows = Namer(contract, wall=lambda: now).name(own, b"", headers).rows
    assert rows == [{name: "2013-04-01T06:00:00Z"}, {name: "2033-05-18T03:33:20+00:00"}]
    assert Namer(flights.contract, wall=lambda: now).name(own, b"", headers) is own

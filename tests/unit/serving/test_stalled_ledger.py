"""A ledger that hangs: answers go on and do not wait for it; a replica that begins waits."""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.config import Config
from app.ledger.database import open_ledger
from app.ledger.migrations import LedgerMismatch
from app.serving.aside import MOST_WAITING
from app.serving.following import Follower, FollowerThread
from app.serving.replica import Replica
from tests.serving_world import give_roles, make_rows, make_table, put_version
from tests.stalled_ledger import stalled
from tests.unit.serving.conftest import World, open_world, wait_until
from tests.unit.serving.test_bulk import ARROW, stream

PREDICT = "/v1/flights/predict"


@pytest.fixture
def timely(flights: Config) -> Iterator[World]:
    """A replica on a wall clock."""
    with open_world(flights.model_copy(update={"clock": "wall"})) as world:
        world.promote(seed=1)
        yield world


def test_what_stalls_a_ledger_here_lets_nobody_read_or_write(flights: Config) -> None:
    ledger = open_ledger(flights.ledger_url)
    came: list[str] = []

    def read() -> None:
        try:
            with ledger.reading() as connection:
                connection.execute(text("SELECT count(*) FROM roles")).scalar()
            came.append("read")
        except SQLAlchemyError:
            came.append("refused")

    with stalled(flights.workspace / "ledger.sqlite"):
        reader = threading.Thread(target=read)
        reader.start()
        reader.join(1.0)
        assert came == []
    reader.join(60)
    assert came == ["read"]


def test_predictions_of_every_kind_are_answered_while_the_ledger_hangs(timely: World) -> None:
    contract, client = timely.config.contract, timely.client
    [known] = client.post(PREDICT, json={"rows": make_rows(contract, 1)}).json()["predictions"]
    timely.replica.ship()
    receipt = f"/v1/flights/predictions/{known['prediction_id']}"
    assert client.get(receipt).status_code == 200
    many = {"rows": make_rows(contract, 40, first=1000)}

    with (
        stalled(timely.config.workspace / "ledger.sqlite"),
        ThreadPoolExecutor(MOST_WAITING) as pool,
    ):
        waiting = [pool.submit(client.get, receipt) for _ in range(MOST_WAITING)]
        time.sleep(0.3)
        answers = [
            client.post(PREDICT, json={"rows": make_rows(contract, 1, first=100)}),
            client.post(PREDICT, json=many),
            client.post(PREDICT, content=stream(make_table(contract, 9, 200)), headers=ARROW),
            client.get("/v1/flights/metadata"),
            client.get("/readyz"),
        ]
        still_waiting = [not each.done() for each in waiting]
        shut_out = client.get(receipt)

    assert [answer.status_code for answer in answers] == [200] * 5
    assert all(still_waiting)
    assert (shut_out.status_code, shut_out.json()["error"]["where"]) == (503, "server")
    assert {each.result().status_code for each in waiting} <= {200, 503}
    assert client.get(receipt).status_code == 200


def test_how_old_the_roles_are_is_told_and_falls_back_once_they_are_read(timely: World) -> None:
    def age() -> float:
        told: float = timely.client.get("/v1/flights/metadata").json()["roles_age_seconds"]
        return told

    with stalled(timely.config.workspace / "ledger.sqlite"):
        wait_until(lambda: age() > 1.5)
    wait_until(lambda: age() < 1.0)


def test_a_replica_takes_no_requests_before_the_ledger_can_be_asked(
    flights: Config, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = open_ledger(flights.ledger_url)
    digest = put_version(flights, ledger, seed=1)
    give_roles(ledger, "flights", digest)
    ledger.close()
    with stalled(flights.workspace / "ledger.sqlite"):
        replica = Replica(flights, wall=time.time, steady=time.monotonic)
        starting = threading.Thread(target=replica.start)
        starting.start()
        starting.join(1.0)
        assert starting.is_alive()
        assert replica.predictor.residents.current is None

    starting.join(60)
    try:
        assert replica.predictor.readiness().version == digest
    finally:
        replica.stop()


def test_a_replica_that_waits_for_the_ledger_says_so(
    flights: Config, caplog: pytest.LogCaptureFixture
) -> None:
    replica = Replica(flights, wall=time.time, steady=time.monotonic)
    ledger = open_ledger(flights.ledger_url)
    away = threading.Event()

    def also() -> None:
        if not away.is_set():
            raise SQLAlchemyError("away")

    follower = Follower(ledger, "flights", "r", replica.predictor.residents, also=also)
    thread = FollowerThread(follower, 0.02, wall=time.time, steady=time.monotonic)
    starting = threading.Thread(target=thread.start, args=(0.1,))
    with caplog.at_level(logging.WARNING):
        starting.start()
        wait_until(lambda: "nobody knows who is champion" in caplog.text)
    assert starting.is_alive()
    away.set()
    starting.join(20)
    assert not starting.is_alive()
    thread.stop()
    replica.stop()


def test_a_ledger_of_another_version_ends_the_start(flights: Config) -> None:
    ledger = open_ledger(flights.ledger_url)
    with ledger.transaction() as connection:
        connection.execute(text("INSERT INTO migrations VALUES (999, 'later', 'x')"))
    replica = Replica(flights, wall=time.time, steady=time.monotonic)
    with pytest.raises(LedgerMismatch, match="newer version"):
        replica.start()
    # Whoever hosts it stops it all the same.
    replica.stop()

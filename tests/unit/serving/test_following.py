"""Following the ledger: acknowledgements, heartbeats, and a ledger that goes away."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.config import Config
from app.ledger.clock import drive_clock
from app.ledger.database import Ledger, open_ledger
from app.model.bundle import ModelBundle
from app.registry.artifacts import Artifacts
from app.registry.store import Replica, live_replicas
from app.serving.following import HEARTBEAT_SECONDS, Follower, LedgerClock
from app.serving.predictor import ClockUnknown
from app.serving.replica import Replica as RunningReplica
from app.serving.residents import Residents
from tests.serving_world import AT, give_roles, put_version


@pytest.fixture
def ledger(flights: Config) -> Iterator[Ledger]:
    opened = open_ledger(flights.ledger_url)
    yield opened
    opened.close()


@pytest.fixture
def residents(flights: Config) -> Residents:
    artifacts = Artifacts(flights.artifacts_path)
    return Residents(
        flights.contract, lambda digest: ModelBundle.load(artifacts.path(digest), digest)
    )


@pytest.fixture
def follower(ledger: Ledger, residents: Residents) -> Follower:
    return Follower(ledger, "flights", "replica-1", residents)


def seen(ledger: Ledger, wall: float = 1000.0) -> Replica:
    [replica] = live_replicas(ledger, "flights", wall)
    return replica


def test_a_generation_is_acknowledged_once_its_champion_is_resident(
    flights: Config, ledger: Ledger, follower: Follower
) -> None:
    follower.tick(1000.0, 0.0)
    assert seen(ledger).generation == 0

    digest = put_version(flights, ledger, seed=1)
    roles = give_roles(ledger, "flights", digest)
    follower.tick(1000.2, 0.2)

    replica = seen(ledger)
    assert (replica.generation, replica.resident) == (roles.generation, (digest,))
    assert replica.problems == {}


def test_an_altered_artifact_is_reported_and_its_generation_is_not_acknowledged(
    flights: Config, ledger: Ledger, residents: Residents, follower: Follower
) -> None:
    first = put_version(flights, ledger, seed=1)
    give_roles(ledger, "flights", first)
    follower.tick(1000.0, 0.0)
    second = put_version(flights, ledger, seed=2)
    weights = flights.artifacts_path / second / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    give_roles(ledger, "flights", second, previous=first)

    follower.tick(1000.2, 0.2)

    replica = seen(ledger)
    assert (replica.generation, replica.resident) == (1, (first,))
    assert "weights.safetensors" in replica.problems[second]
    assert residents.current is not None
    assert residents.current.roles.champion == first


def test_a_heartbeat_is_given_when_it_is_due_and_not_at_every_tick(
    ledger: Ledger, follower: Follower
) -> None:
    follower.tick(1000.0, 0.0)
    follower.tick(1000.5, 0.5)
    assert seen(ledger).seen == 1000.0

    follower.tick(1000.0 + HEARTBEAT_SECONDS, HEARTBEAT_SECONDS)

    assert seen(ledger).seen == 1000.0 + HEARTBEAT_SECONDS


def test_with_the_ledger_away_the_last_generation_stays(
    flights: Config, ledger: Ledger, residents: Residents, follower: Follower
) -> None:
    give_roles(ledger, "flights", put_version(flights, ledger, seed=1))
    follower.tick(1000.0, 0.0)
    before = residents.current
    with ledger.transaction() as connection:
        connection.execute(text("ALTER TABLE roles RENAME TO roles_away"))

    with pytest.raises(SQLAlchemyError):
        follower.tick(1001.0, 1.0)

    assert before is not None
    assert residents.current is before


def test_a_replica_that_retires_is_waited_for_no_longer(ledger: Ledger, follower: Follower) -> None:
    follower.tick(1000.0, 0.0)

    follower.retire()

    assert live_replicas(ledger, "flights", 1000.0) == []


def test_a_driven_clock_is_read_at_every_request(flights: Config, ledger: Ledger) -> None:
    clock = LedgerClock(ledger, flights, wall=lambda: 0.0)
    drive_clock(ledger, flights, now=AT)

    assert clock() == AT

    later = AT.replace(day=2)
    drive_clock(ledger, flights, now=later)
    assert clock() == later


def test_a_driven_clock_that_cannot_be_read_is_unknown_and_a_wall_clock_goes_on(
    flights: Config, ledger: Ledger
) -> None:
    with ledger.transaction() as connection:
        connection.execute(text("ALTER TABLE clock RENAME TO clock_away"))
    on_the_wall = flights.model_copy(update={"clock": "wall"})

    with pytest.raises(ClockUnknown):
        LedgerClock(ledger, flights, wall=lambda: 60.0)()

    assert LedgerClock(ledger, on_the_wall, wall=lambda: 60.0)() == datetime(
        1970, 1, 1, 0, 1, tzinfo=UTC
    )


def test_it_is_settled_that_nobody_answers_when_the_champion_is_unfit(
    flights: Config, ledger: Ledger, follower: Follower
) -> None:
    digest = put_version(flights, ledger, seed=1)
    (flights.artifacts_path / digest / "weights.safetensors").write_bytes(b"altered")
    give_roles(ledger, "flights", digest)
    assert not follower.settled.is_set()
    follower.tick(1000.0, 0.0)
    assert follower.settled.is_set()


def test_a_replica_takes_no_request_before_its_champion_is_there(
    flights: Config, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put_version(flights, ledger, seed=1)
    give_roles(ledger, "flights", digest)
    load = ModelBundle.load

    def load_slowly(*given: Any) -> ModelBundle:
        time.sleep(1.5)
        return load(*given)

    monkeypatch.setattr(ModelBundle, "load", load_slowly)
    replica = RunningReplica(flights, wall=time.time, steady=time.monotonic)
    replica.start()
    try:
        assert replica.predictor.readiness().version == digest
    finally:
        replica.stop()

"""One replica over a real ledger, real bundles, real tables; no Ray and no socket."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from app.config import Config
from app.contracts.rows import Contract
from app.data.tables import TableName, Tables, open_tables
from app.ledger.database import Ledger, open_ledger
from app.security.access import ROLES, Keyring
from app.serving.api import build_api
from app.serving.replica import Replica
from tests.serving_world import give_roles, put_version


@dataclass
class World:
    """A replica that answers, and everything around it."""

    config: Config
    ledger: Ledger
    replica: Replica
    tables: Tables
    client: TestClient
    """It sends a key that has every role."""
    keyring: Keyring
    champion: str = ""

    def promote(self, seed: int) -> str:
        """Make a new version the champion and wait until the replica answers with it."""
        digest = put_version(self.config, self.ledger, seed)
        give_roles(self.ledger, self.config.name, digest, self.champion or None)
        self.champion = digest
        wait_until(lambda: self.client.get("/readyz").json().get("version") == digest)
        return digest

    def logged(self, name: TableName) -> pa.Table:
        """Ship what was kept and read a table."""
        self.replica.ship()
        return self.tables.read(name)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def open_world(config: Config, ship_in: str = "thread") -> Iterator[World]:
    """Start a replica of a model, with no champion yet, and stop it."""
    times = {"roles_poll_seconds": 0.02, "ship_seconds": 60.0}
    capture = config.serving.capture.model_copy(update={"ship_in": ship_in})
    serving = {**times, "capture": capture, "max_rows_per_request": 500}
    config = config.model_copy(
        update={"serving": config.serving.model_copy(update={**serving, "max_body_mb": 1.0})}
    )
    ledger = open_ledger(config.ledger_url)
    replica = Replica(config, wall=time.time, steady=time.monotonic)
    replica.start()
    tables = open_tables(config)
    with TestClient(build_api(replica), raise_server_exceptions=False) as client:
        keyring = Keyring(config.workspace)
        key = keyring.create("everything", ROLES, datetime.now(UTC))
        client.headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        yield World(config, ledger, replica, tables, client, keyring)
    replica.stop()
    ledger.close()


@pytest.fixture
def empty_world(flights: Config) -> Iterator[World]:
    """A replica whose model has no champion yet."""
    with open_world(flights) as world:
        yield world


@pytest.fixture
def strict_world(flights: Config) -> Iterator[World]:
    """A replica with a champion whose contract has a rule and a forbidden column."""
    given = flights.contract.model_dump()
    given["columns"] = [
        *given["columns"],
        {"name": "crew_names", "kind": "identifier", "privacy": "forbidden"},
    ]
    given["rules"] = [{"name": "city_has_all", "expect": "city_departures >= origin_departures"}]
    contract = Contract.model_validate(given)
    with open_world(flights.model_copy(update={"contract": contract})) as world:
        world.promote(seed=1)
        yield world


@pytest.fixture
def world(empty_world: World) -> World:
    """A replica with a champion."""
    empty_world.promote(seed=1)
    return empty_world

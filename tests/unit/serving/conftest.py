"""One replica over a real ledger, real bundles, real tables; no Ray and no socket."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from app.config import Config
from app.data.tables import TableName, Tables, open_tables
from app.ledger.database import Ledger, open_ledger
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


@pytest.fixture
def empty_world(flights: Config) -> Iterator[World]:
    """A replica whose model has no champion yet."""
    serving = {"roles_poll_seconds": 0.02, "ship_seconds": 60.0, "max_rows_per_request": 500}
    config = flights.model_copy(
        update={"serving": flights.serving.model_copy(update={**serving, "max_body_mb": 1.0})}
    )
    ledger = open_ledger(config.ledger_url)
    replica = Replica(config, wall=time.time, steady=time.monotonic)
    replica.start()
    tables = open_tables(config)
    with TestClient(build_api(replica), raise_server_exceptions=False) as client:
        yield World(config, ledger, replica, tables, client)
    replica.stop()
    ledger.close()


@pytest.fixture
def world(empty_world: World) -> World:
    """A replica with a champion."""
    empty_world.promote(seed=1)
    return empty_world

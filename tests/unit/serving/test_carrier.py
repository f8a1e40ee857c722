"""A process of its own that ships: the same rows in the same tables, whoever of the two dies."""

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from app.config import Config
from app.data.tables import Tables, open_tables
from app.serving.capture import Spool
from app.serving.carrier import CarrierError, CarrierProcess
from app.serving.shipping import adopt_spools
from tests.serving_world import make_rows
from tests.unit.serving.conftest import World, open_world
from tests.unit.serving.test_erased import entomb
from tests.unit.serving.test_shipping import (
    assert_each_once,
    labels,
    logged,
    open_spool,
    run_and_kill,
)
from tests.waiting import wait_until


@pytest.fixture
def tables(flights: Config) -> Tables:
    return open_tables(flights)


@pytest.fixture
def spool(flights: Config, tables: Tables) -> Spool:
    return open_spool(flights, tables)


@pytest.fixture
def carrier(flights: Config, spool: Spool) -> Iterator[CarrierProcess]:
    carrier = CarrierProcess(flights, spool.lock_descriptor)
    yield carrier
    carrier.close()


def kept(spool: Spool, tables: Tables, *ids: str) -> Path:
    spool.append(labels(tables, *ids))
    spool.roll()
    return spool.folder


def test_what_is_kept_is_shipped_by_another_process_which_ends_when_it_is_let_go(
    spool: Spool, tables: Tables, carrier: CarrierProcess
) -> None:
    shipped: Counter[str] = Counter()
    carrier.ship(kept(spool, tables, "a", "b"), shipped)
    first = carrier.pid
    carrier.ship(kept(spool, tables, "c"), shipped)

    assert sorted(logged(tables)) == ["a", "b", "c"]
    assert shipped == {"labels": 3}
    assert [path.name for path in spool.folder.iterdir()] == ["lock"]
    assert carrier.pid == first
    assert first not in (None, os.getpid())

    carrier.close()
    assert not psutil.pid_exists(first or 0)


def test_a_spool_with_nothing_in_it_starts_nothing(spool: Spool, carrier: CarrierProcess) -> None:
    carrier.ship(spool.folder, Counter())
    carrier.adopt(spool.folder.parent, Counter())
    assert carrier.pid is None


def test_one_that_was_killed_is_started_anew_and_doubles_nothing(
    spool: Spool, tables: Tables, carrier: CarrierProcess
) -> None:
    shipped: Counter[str] = Counter()
    folder = kept(spool, tables, "a")
    [segment] = folder.glob("*.segment")
    content = segment.read_bytes()
    carrier.ship(folder, shipped)
    # It is killed when a segment is in the table and not deleted yet.
    segment.write_bytes(content)
    assert carrier.pid is not None
    os.kill(carrier.pid, signal.SIGKILL)

    carrier.ship(kept(spool, tables, "b"), shipped)

    assert sorted(logged(tables)) == ["a", "b"]
    assert list(folder.glob("*.segment")) == []


def test_what_is_wrong_is_told_and_the_process_goes_on(
    flights: Config, spool: Spool, tables: Tables, carrier: CarrierProcess
) -> None:
    flights.tables_path.write_text("in the way of the tables' folder")
    folder = kept(spool, tables, "a")
    with pytest.raises(CarrierError, match="FileExistsError"):
        carrier.ship(folder, Counter())
    first = carrier.pid

    flights.tables_path.unlink()
    carrier.ship(folder, Counter())

    assert logged(tables) == ["a"]
    assert carrier.pid == first


def test_one_that_cannot_even_begin_is_told_of_and_its_rows_wait(
    spool: Spool, tables: Tables, carrier: CarrierProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kept(spool, tables, "a")
    with monkeypatch.context() as patch:
        patch.setattr("app.serving.carrier.MODULE", "app.serving.nowhere")
        with pytest.raises(CarrierError, match="ends before it has shipped"):
            carrier.ship(folder, Counter())
    assert carrier.pid is None

    carrier.ship(folder, Counter())

    assert logged(tables) == ["a"]


def test_what_the_dead_left_is_adopted(
    flights: Config, spool: Spool, tables: Tables, carrier: CarrierProcess
) -> None:
    dead = open_spool(flights, tables)
    dead.append(labels(tables, "dead"))
    dead.close()
    adopted: Counter[str] = Counter()

    carrier.adopt(flights.spool_path, adopted)

    assert adopted == {"labels": 1}
    assert logged(tables) == ["dead"]
    assert [path for path in flights.spool_path.iterdir() if path.is_dir()] == [spool.folder]


def test_a_folder_is_not_adopted_while_its_owners_process_still_ships(
    flights: Config, spool: Spool, tables: Tables, carrier: CarrierProcess
) -> None:
    carrier.ship(kept(spool, tables, "a"), Counter())
    kept(spool, tables, "b")
    spool.close()

    assert adopt_spools(flights.spool_path, tables) == {}
    carrier.close()
    assert adopt_spools(flights.spool_path, tables) == {"labels": 1}
    assert sorted(logged(tables)) == ["a", "b"]


def test_a_writer_killed_at_any_moment_loses_nothing_and_its_process_ends_after_it(
    flights: Config, tables: Tables
) -> None:
    chance = random.Random(6)
    acknowledged: list[str] = []
    for life in range(3):
        begun = partial(has_shipped, tables, f"life{life}")
        seconds = chance.uniform(0, 2)
        acknowledged += run_and_kill(flights.workspace, f"life{life}", seconds, "process", begun)

    def all_adopted() -> bool:
        adopt_spools(flights.spool_path, tables)
        return [path for path in flights.spool_path.iterdir() if path.is_dir()] == []

    wait_until(all_adopted)
    assert_each_once(acknowledged, logged(tables), lives=3)


def has_shipped(tables: Tables, writer: str) -> bool:
    return any(name.startswith(writer) for name in logged(tables))


def test_a_replica_ships_by_it_and_leaves_out_the_erased(flights: Config) -> None:
    with open_world(flights, ship_in="process") as world:
        world.promote(seed=1)
        rows = make_rows(world.config.contract, 3)
        rows[1]["tail"] = "N22222"
        assert answered(world, rows) == ["row-0", "row-1", "row-2"]
        entomb(world.config, "N22222")

        assert world.logged("events")["flight_id"].to_pylist() == ["row-0", "row-2"]
        assert world.logged("predictions")["row_id"].to_pylist() == ["row-0", "row-2"]
        assert world.client.get("/v1/flights/metadata").json()["shipped"]["events"] == 3


def answered(world: World, rows: list[dict[str, object]]) -> list[str]:
    answer = world.client.post("/v1/flights/predict", json={"rows": rows}).json()
    return [row["row_id"] for row in answer["predictions"]]

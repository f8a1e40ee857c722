"""Keys change while rows are staged, captured and kept for serving; none of them is lost."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from app.contracts.times import micros_of
from app.data.admitting import Plan, commit_delivery
from app.data.deliveries import Delivery
from app.data.rotation import Rotated, rotate
from app.data.sealing import key_of
from app.data.storekeys import StoreKeys
from app.security.keyring import FileKeyring, open_keyring
from app.serving.resealing import CapturedRows, places_of
from app.serving.segments import CLOSED, DAMAGED
from app.serving.shipping import adopt_spools
from app.serving.upkeep import online_path, upkeep_lock
from tests.sealed_world import EVERYTHING, NOON, PLACE, World, fill, orders, staged_half_way


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "workspace", at_rest=True)
    yield made
    made.replica.stop()


def changed(world: World) -> Rotated:
    """Change the keys as the job does."""
    keyring = open_keyring(world.config)
    return rotate(world.tables, keyring, places_of(world.config, keyring))


def keys(world: World) -> tuple[str, ...]:
    return open_keyring(world.config).ids()


def counted(world: World) -> float:
    online = world.replica.predictor.online
    assert online is not None
    row = pa.table({"customer": [world.pseudonym], "place": [PLACE]})
    found: float = online.values(row, np.array([micros_of(NOON + timedelta(hours=1))]))["orders"][
        0
    ].as_py()
    return found


def test_an_ingest_goes_on_under_the_key_that_it_began_with(world: World) -> None:
    with staged_half_way(world, orders(0)) as (settled, folder):
        (old,) = keys(world)
        done = changed(world)
        assert done.kept == {old: ("staging: an ingest is at work",)}
        assert (done.retired, keys(world)) == ((), (old, done.key))
        assert {key_of(path.name) for path in folder.iterdir()} == {old}
        plan = Plan("events", (Delivery("d1", "d1"),), EVERYTHING, {}, ())
        commit_delivery(world.tables, plan, plan.pending[0], settled, NOON, last=True)
    assert world.tables.read("events").num_rows == 2
    again = changed(world)
    assert (again.key, again.kept, again.retired) == (done.key, {}, (old,))
    assert world.tables.read("events").num_rows == 2


def test_what_a_killed_ingest_left_holds_no_key_back(world: World) -> None:
    with staged_half_way(world, orders(0)) as (_, folder):
        left = folder.with_name("1-dead")
        folder.rename(left)
        folder.mkdir()
    assert list(left.iterdir())
    (old,) = keys(world)
    assert changed(world).retired == (old,)
    assert not left.exists()


def test_captured_rows_keep_their_key_until_they_are_shipped(world: World) -> None:
    world.serve(0)
    (old,) = keys(world)
    done = changed(world)
    (why,) = done.kept[old]
    assert why.startswith("spool/")
    world.serve(3)
    world.replica.ship()
    assert world.tables.read("events").num_rows == 6
    assert changed(world).retired == (old,)
    world.serve(6)
    assert {key_of(p.name) for p in world.config.spool_path.glob("*/*.open")} == {done.key}


def test_no_key_is_retired_between_its_choice_and_the_segment_that_names_it(world: World) -> None:
    keyring = open_keyring(world.config)
    old = keyring.current()
    with ThreadPoolExecutor(1) as pool:
        with CapturedRows(world.config.spool_path).needing() as needed:
            assert needed == {}
            serving = pool.submit(world.serve, 0)
            with pytest.raises(TimeoutError):
                serving.result(timeout=0.3)
            keyring.renew()
            keyring.retire(old)
        serving.result()
    world.replica.ship()
    assert world.tables.read("events").num_rows == 3


def test_rows_of_a_dead_replica_are_adopted_after_the_change_and_damaged_ones_stay_readable(
    world: World,
) -> None:
    world.serve(0)
    world.replica.predictor.spool.close()
    (old,) = keys(world)
    changed(world)
    [segment] = world.config.spool_path.glob(f"*/*{CLOSED}")
    copied = segment.with_name(segment.name.replace("0000000001", "0000000009"))
    copied.with_suffix(DAMAGED).write_bytes(segment.read_bytes())
    assert adopt_spools(world.config.spool_path, world.tables) == {"events": 3}
    (why,) = changed(world).kept[old]
    assert why.endswith(DAMAGED)
    assert old in keys(world)


def test_the_online_store_gets_a_new_key_and_replicas_answer_all_the_while(world: World) -> None:
    fill(world)
    world.replica.ship()
    path, before = online_path(world.config), counted(world)
    (old,) = keys(world)
    (data_key,) = StoreKeys(path, open_keyring(world.config)).read()
    done = changed(world)
    assert (done.num_elsewhere, done.retired) == (1, (old,))
    (new_key,) = StoreKeys(path, open_keyring(world.config)).read()
    assert new_key != data_key
    assert counted(world) == before == 7.0
    # Whoever keeps it up goes on too, and another process finds it as it was.
    world.serve(9)
    world.replica.ship()
    assert counted(world) == 10.0
    assert changed(world).num_elsewhere == 1
    assert counted(world) == 10.0


def test_a_store_that_is_being_filled_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(world)
    seen = []

    def look(self: FileKeyring) -> str:
        # Whoever changes the key has the store to himself: nobody fills it or erases in it.
        with pytest.raises(BlockingIOError), upkeep_lock(online_path(world.config), wait=False):
            seen.append("not alone")
        seen.append("alone")
        return current(self)

    current = FileKeyring.current
    keyring = open_keyring(world.config)
    *_, store = places_of(world.config, keyring)
    keyring.renew()
    with monkeypatch.context() as patch:
        patch.setattr(FileKeyring, "current", look)
        assert store.reseal() == 1
    assert set(seen) == {"alone"}

"""Nothing private lies in clear anywhere below a workspace: staged, captured, kept for serving."""

import copy
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretBytes

from app.contracts.times import micros_of
from app.data.stagedfiles import StagedFiles
from app.security.keyring import FileKeyring
from app.security.privacy import Pseudonymiser
from app.security.secrets import SecretError
from app.security.tombstones import Tombstones
from app.serving.segments import read_segment
from tests.sealed_world import NOON, PLACE, WEIGHT, World, fill, orders, staged_half_way


@pytest.fixture
def open_world(tmp_path: Path) -> Iterator[Callable[[bool], World]]:
    made: list[World] = []

    def make(at_rest: bool) -> World:
        made.append(World(tmp_path / "workspace", at_rest=at_rest))
        return made[-1]

    yield make
    for each in made:
        each.replica.stop()


def test_without_a_key_nothing_private_is_found_anywhere(
    open_world: Callable[[bool], World],
) -> None:
    world = open_world(True)
    with staged_half_way(world, orders(0, spoiled=True)) as (settled, folder):
        # What is kept, what was refused as it was judged, and what came before.
        assert len(list(folder.iterdir())) == 3
        assert (settled.num_accepted, settled.num_quarantined) == (1, 2)
        assert world.found() == {}
    fill(world)
    spooled = list(world.config.spool_path.glob("*/*.open"))
    stores = list((world.config.workspace / "online").glob("*.sqlite"))
    assert (len(spooled), len(stores)) == (1, 1)
    assert world.found() == {}


def test_what_a_killed_ingest_left_is_unreadable_without_the_ring(
    open_world: Callable[[bool], World],
) -> None:
    world = open_world(True)
    with staged_half_way(world, orders(0)) as (settled, _):
        (accepted,) = (block.accepted for block in settled.blocks)
        assert accepted is not None
        with pytest.raises(SecretError, match="no keyring was given"):
            StagedFiles(Path(accepted).parent).read(accepted)
        for path in Path(accepted).parent.iterdir():
            with pytest.raises(OSError, match="decryption"):
                pq.read_metadata(path)


def test_with_the_key_everything_reads(open_world: Callable[[bool], World]) -> None:
    world = open_world(True)
    with staged_half_way(world, orders(0, spoiled=True)) as (settled, _):
        (kept,), refused = settled.accepted(), pa.concat_tables(settled.refused())
        assert kept.select(["order", "customer", "place", "weight"]).to_pylist() == [
            {"order": "order-0", "customer": world.pseudonym, "place": PLACE, "weight": WEIGHT}
        ]
        assert refused.num_rows == 2
    fill(world)
    assert world.tables.read("events")["weight"].to_pylist() == [WEIGHT] * 4
    [path] = world.config.spool_path.glob("*/*.open")
    captured = read_segment(path, world.tables.sealing.keyring).tables["events"]
    assert captured["place"].to_pylist() == [PLACE] * 3
    online = world.replica.predictor.online
    assert online is not None
    row = pa.table({"customer": [world.pseudonym], "place": [PLACE]})
    values = online.values(row, np.array([micros_of(NOON + timedelta(hours=1))])).to_pylist()
    assert values == [{"orders": 4.0, "places": 1.0, "carried": WEIGHT}]


def test_the_search_finds_all_of_it_where_nothing_is_sealed(
    open_world: Callable[[bool], World],
) -> None:
    world = open_world(False)
    with staged_half_way(world, orders(0, spoiled=True)):
        in_staging = {
            name for name, places in world.found().items() if any("staging" in p for p in places)
        }
    fill(world)
    found = world.found()
    assert in_staging == set(world.canaries())
    for part in ("tables", "spool", "online"):
        there = {name for name, places in found.items() if any(part in place for place in places)}
        # The name itself is nowhere, sealed or not: a pseudonym stands for it.
        assert there == set(world.canaries()), part


@pytest.mark.parametrize("kind", [Pseudonymiser, Tombstones])
def test_what_holds_a_key_does_not_travel(kind: type) -> None:
    with pytest.raises(TypeError, match="make it where it is needed"):
        copy.copy(kind(SecretBytes(b"k" * 32)))


def test_a_ring_of_keys_does_not_travel(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="holds a key"):
        copy.copy(FileKeyring(tmp_path / "keyring.json"))

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from app.contracts.rows import Contract
from app.data import rotation
from app.data.delta_log import data_files
from app.data.rotation import rotate
from app.data.sealing import Sealing, key_of
from app.data.tables import NAMES, Tables
from app.security.keyring import EnvironmentKeyring, FileKeyring
from tests.unit.data.interruptions import Killed, killed_after

NOON = datetime(2024, 3, 2, 12, tzinfo=UTC)
ONE, TWO = "11" * 32, "22" * 32


@pytest.fixture
def ring(tmp_path: Path) -> FileKeyring:
    return FileKeyring(tmp_path / "keyring.json")


@pytest.fixture
def sealed(tmp_path: Path, parcels: Contract, ring: FileKeyring) -> Tables:
    return fill(Tables(tmp_path / "tables", parcels, Sealing(ring, at_rest=True)))


def refused(number: int) -> pa.Table:
    content = {
        "row": [f"row {number}"],
        "reasons": [["weight is heavy", str(number)]],
        "position": [number],
        "source": ["test"],
        "ingested_at": [NOON],
    }
    return pa.table(content)


def fill(tables: Tables) -> Tables:
    for number in range(4):
        tables.append("quarantine", refused(number), ("spool", number))
    return tables


def keys(tables: Tables) -> set[str | None]:
    return {key_of(file) for file in data_files(tables.folder("quarantine"))}


def by_version(tables: Tables) -> list[pa.Table]:
    return [tables.read("quarantine", v) for v in range(tables.version("quarantine") + 1)]


def test_all_versions_are_under_the_new_key_and_the_old_one_is_gone(
    sealed: Tables, ring: FileKeyring
) -> None:
    old, before = ring.current(), by_version(sealed)
    done = rotate(sealed, ring)
    assert by_version(sealed) == before
    assert keys(sealed) == {done.key} == {ring.current()}
    assert (done.retired, ring.ids()) == ((old,), (done.key,))
    assert done.num_files == {**dict.fromkeys(NAMES, 0), "quarantine": 4}


def test_a_large_table_is_exchanged_in_portions(
    sealed: Tables, ring: FileKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "PORTION_BYTES", 1)
    before = by_version(sealed)
    assert rotate(sealed, ring).num_files["quarantine"] == 4
    assert by_version(sealed) == before


def test_it_ends_at_any_point_and_every_row_stays_readable(
    tmp_path: Path, parcels: Contract
) -> None:
    for point in range(100):
        ring = FileKeyring(tmp_path / str(point) / "keyring.json")
        tables = Tables(tmp_path / str(point), parcels, Sealing(ring, at_rest=True))
        before = by_version(fill(tables))
        old = ring.current()
        try:
            with killed_after(point, tmp_path / str(point)):
                rotate(tables, ring)
        except Killed:
            assert by_version(tables) == before
            rotate(tables, ring)
        else:
            break
        assert by_version(tables) == before
        assert old not in ring.ids()
        assert len(ring.ids()) == 1
        assert keys(tables) == {ring.current()}
    assert 20 < point < 99


def test_appends_that_race_with_it_are_under_a_key_that_is_kept(
    sealed: Tables, ring: FileKeyring
) -> None:
    with ThreadPoolExecutor(2) as pool:
        writing = [
            pool.submit(sealed.append, "quarantine", refused(number)) for number in range(4, 16)
        ]
        for _ in range(2):
            rotate(sealed, ring)
        assert all(future.result() for future in writing)
    positions = sealed.read("quarantine")["position"].to_pylist()
    assert sorted(positions) == list(range(16))


def test_what_is_to_be_plain_again_becomes_plain(sealed: Tables, ring: FileKeyring) -> None:
    before = by_version(sealed)
    plain = Tables(sealed.root, sealed.contract, Sealing(ring, at_rest=False))
    assert rotate(plain, ring).key is None
    assert keys(plain) == {None}
    assert by_version(Tables(sealed.root, sealed.contract)) == before
    assert rotate(sealed, ring).num_files["quarantine"] == 4
    assert keys(sealed) == {ring.current()}


def test_keys_of_the_environment_are_left_to_their_owner(tmp_path: Path, parcels: Contract) -> None:
    first = EnvironmentKeyring({"MAINSPRING_MASTER_KEYS": f"a:{ONE}"})
    tables = fill(Tables(tmp_path, parcels, Sealing(first, at_rest=True)))
    before = by_version(tables)
    both = EnvironmentKeyring({"MAINSPRING_MASTER_KEYS": f"a:{ONE},b:{TWO}"})
    done = rotate(Tables(tmp_path, parcels, Sealing(both, at_rest=True)), both)
    assert (done.key, done.retired, done.unneeded) == ("b", (), ("a",))
    only = EnvironmentKeyring({"MAINSPRING_MASTER_KEYS": f"b:{TWO}"})
    assert by_version(Tables(tmp_path, parcels, Sealing(only, at_rest=True))) == before

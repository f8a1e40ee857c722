"""A sealed SQLite file: unreadable without its key, its key changed under readers, begun anew."""

import logging
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from app.data.sealedstore import NotItsKey, change_key, is_sealed, masters_of, opening, texts_in
from app.data.storefile import BUSY_ERRORS, StoreFile, read_number, write_number
from app.data.storekeys import StoreKeys
from app.security.keyring import FileKeyring
from app.security.secrets import SecretError
from tests.sealed_pages import every_page
from tests.unit.data.interruptions import Killed, killed_after

NOTES = "CREATE TABLE IF NOT EXISTS notes (text TEXT)"


@pytest.fixture
def ring(tmp_path: Path) -> FileKeyring:
    return FileKeyring(tmp_path / "keys" / "ring.json")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "notes.sqlite"


def opened(path: Path, ring: FileKeyring) -> StoreFile:
    return StoreFile(path, [NOTES], busy_seconds=0.2, keyring=ring)


def fill(file: StoreFile, number: int = 1, note: str = "canary") -> None:
    with file.transaction() as database:
        database.executemany("INSERT INTO notes VALUES (?)", [(f"{note} {i}",) for i in range(500)])
        write_number(database, "offset", number)


def offset(file: StoreFile) -> int | None:
    with file.reading() as database:
        return read_number(database, "offset")


def test_no_byte_is_in_clear_and_the_standard_library_reads_none_of_it(
    path: Path, ring: FileKeyring
) -> None:
    with closing(opened(path, ring)) as file:
        fill(file)
        assert not any(b"canary" in each.read_bytes() for each in path.parent.iterdir())
        assert b"canary" in every_page(path, ring)
    assert is_sealed(path)
    with (
        closing(sqlite3.connect(path)) as database,
        pytest.raises(sqlite3.DatabaseError, match="not a database"),
    ):
        database.execute("SELECT * FROM sqlite_master")
    assert set(texts_in(path, ring)) == {"offset", *(f"canary {i}" for i in range(500))}


def test_a_changed_key_is_found_by_those_who_have_the_file_open(
    path: Path, ring: FileKeyring
) -> None:
    with closing(opened(path, ring)) as mine, closing(opened(path, ring)) as other:
        fill(mine)
        (before,) = StoreKeys(path, ring).read()
        with other.reading() as database:
            assert read_number(database, "offset") == 1
            ring.renew()
            assert change_key(path, ring, 0.2)
            # A reader in the middle of a commit goes on reading it.
            assert database.execute("SELECT count(*) FROM notes").fetchone() == (500,)
        assert offset(other) == offset(mine) == 1
        fill(other, 2)
        assert offset(mine) == 2
        (after,) = StoreKeys(path, ring).read()
        assert after != before
        assert masters_of(path, ring) == (ring.current(),)
        assert not change_key(path, ring, 0.2)


def test_a_change_that_is_cut_off_anywhere_can_be_done_again_and_loses_nothing(
    tmp_path: Path,
) -> None:
    for point in range(100):
        folder = tmp_path / str(point)
        ring = FileKeyring(folder / "keys" / "ring.json")
        path = folder / "store" / "notes.sqlite"
        with closing(opened(path, ring)) as file:
            fill(file)
        old = ring.current()
        ring.renew()
        try:
            with killed_after(point, path.parent):
                change_key(path, ring, 0.2)
        except Killed:
            with closing(opened(path, ring)) as file:
                assert offset(file) == 1
            change_key(path, ring, 0.2)
        else:
            break
        assert masters_of(path, ring) == (ring.current(),)
        ring.retire(old)
        with closing(opened(path, ring)) as file:
            assert offset(file) == 1
    assert point > 3


def test_a_change_that_died_after_the_pages_were_sealed_anew_is_gone_on_with(
    path: Path, ring: FileKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(opened(path, ring)) as file:
        fill(file)
    ring.renew()

    def killed(_: StoreKeys) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(StoreKeys, "drop_older", killed)
        with pytest.raises(Killed):
            change_key(path, ring, 0.2)
    old, new = reversed(masters_of(path, ring))
    assert new == ring.current()
    # Whoever opens it now needs the newer key only.
    ring.retire(old)
    with closing(opened(path, ring)) as file:
        assert offset(file) == 1
    assert change_key(path, ring, 0.2)
    assert masters_of(path, ring) == (new,)
    with closing(opened(path, ring)) as file:
        assert offset(file) == 1


def test_while_others_write_the_key_stays(path: Path, ring: FileKeyring) -> None:
    with closing(opened(path, ring)) as file:
        fill(file)
        ring.renew()
        with file.transaction() as database:
            write_number(database, "offset", 2)
            with pytest.raises(BUSY_ERRORS, match="locked"):
                change_key(path, ring, 0.1)
        assert offset(file) == 2
        assert change_key(path, ring, 0.2)
        assert offset(file) == 2


@pytest.mark.parametrize("loss", ["ring", "key file", "garbled key file", "garbled store"])
def test_a_file_that_no_key_opens_is_begun_anew_and_never_read_half(
    path: Path, ring: FileKeyring, loss: str, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(opened(path, ring)) as file:
        fill(file)
    keys = path.with_suffix(".key")
    if loss == "ring":
        old = ring.current()
        ring.renew()
        ring.retire(old)
    elif loss == "key file":
        keys.unlink()
    else:
        (path if "store" in loss else keys).write_bytes(b"\0 no such thing" * 512)
    with pytest.raises(NotItsKey):
        list(texts_in(path, ring))
    with caplog.at_level(logging.WARNING), closing(opened(path, ring)) as file:
        assert offset(file) is None
        fill(file, 3)
    assert "begun anew" in caplog.text
    with closing(opened(path, ring)) as file:
        assert offset(file) == 3


def test_a_lost_ring_takes_nothing_away_before_there_is_a_new_key(
    path: Path, tmp_path: Path, ring: FileKeyring
) -> None:
    with closing(opened(path, ring)) as file:
        fill(file)
    content = path.read_bytes()
    (tmp_path / "tables" / "events").mkdir(parents=True)
    (tmp_path / "tables" / "events" / "part-0.sealed-k1x0.parquet").touch()
    lost = FileKeyring(tmp_path / "lost" / "ring.json", sealed=[tmp_path / "tables"])
    with pytest.raises(SecretError, match="restore the keyring"):
        opened(path, lost)
    assert path.read_bytes() == content
    with closing(opened(path, ring)) as file:
        assert offset(file) == 1


OPENER = """
import sys
from pathlib import Path
from app.data.storefile import StoreFile, write_number
from app.security.keyring import FileKeyring
file = StoreFile(Path(sys.argv[1]), [], keyring=FileKeyring(Path(sys.argv[2])))
with file.transaction() as database:
    write_number(database, sys.argv[3], 1)
file.close()
"""


def test_processes_that_open_a_new_store_at_once_agree_on_its_key(
    path: Path, tmp_path: Path, ring: FileKeyring
) -> None:
    ring.current()
    path.parent.mkdir()
    with opening(path):
        started = [
            subprocess.Popen(
                [sys.executable, "-c", OPENER, str(path), str(tmp_path / "keys/ring.json"), name]
            )
            for name in "abc"
        ]
    assert [process.wait(timeout=60) for process in started] == [0, 0, 0]
    with closing(opened(path, ring)) as file, file.reading() as database:
        assert [read_number(database, name) for name in "abc"] == [1, 1, 1]

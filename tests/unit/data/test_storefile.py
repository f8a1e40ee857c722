"""One SQLite file: whole transactions, and nothing left of what was deleted."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.data.storefile import BUSY_ERRORS, StoreBusy, StoreFile, read_number, write_number
from app.security.keyring import FileKeyring
from tests.sealed_pages import every_page

NOTES = "CREATE TABLE IF NOT EXISTS notes (text TEXT)"


@pytest.fixture(params=["plain", "sealed"])
def keyring(request: pytest.FixtureRequest, tmp_path: Path) -> FileKeyring | None:
    return FileKeyring(tmp_path / "keys" / "ring.json") if request.param == "sealed" else None


@pytest.fixture
def file(tmp_path: Path, keyring: FileKeyring | None) -> Iterator[StoreFile]:
    path = tmp_path / "store" / "notes.sqlite"
    opened = StoreFile(path, [NOTES], busy_seconds=0.2, keyring=keyring)
    yield opened
    opened.close()


def every_byte(file: StoreFile, keyring: FileKeyring | None) -> bytes:
    if keyring is not None:
        return every_page(file.path, keyring)
    return b"".join(path.read_bytes() for path in file.path.parent.iterdir())


def test_a_transaction_that_fails_leaves_nothing(file: StoreFile) -> None:
    def write_half() -> None:
        with file.transaction() as database:
            write_number(database, "offset", 7)
            database.execute("INSERT INTO no_such_table VALUES (1)")

    with pytest.raises(BUSY_ERRORS, match="no_such_table"):
        write_half()
    with file.reading() as database:
        assert read_number(database, "offset") is None


def test_a_reader_sees_one_commit_while_another_is_written(file: StoreFile) -> None:
    with file.reading() as database:
        assert read_number(database, "offset") is None
        with file.transaction() as writing:
            write_number(writing, "offset", 1)
        assert read_number(database, "offset") is None
    with file.reading() as database:
        assert read_number(database, "offset") == 1


def test_scrubbing_leaves_no_byte_of_what_was_deleted(
    file: StoreFile, keyring: FileKeyring | None
) -> None:
    with file.transaction() as database:
        database.executemany("INSERT INTO notes VALUES (?)", [("secret " * 50,)] * 100)
    assert b"secret" in every_byte(file, keyring)
    with file.transaction() as database:
        database.execute("DELETE FROM notes")
    file.scrub()
    assert b"secret" not in every_byte(file, keyring)


def test_scrubbing_says_so_when_a_reader_keeps_old_bytes_and_can_be_done_again(
    file: StoreFile, keyring: FileKeyring | None
) -> None:
    with file.transaction() as database:
        database.execute("INSERT INTO notes VALUES ('secret')")
    with file.reading() as database:
        assert database.execute("SELECT count(*) FROM notes").fetchone() == (1,)
        with file.transaction() as writing:
            writing.execute("DELETE FROM notes")
        with pytest.raises(StoreBusy, match="forget again later"):
            file.scrub()
    file.scrub()
    assert b"secret" not in every_byte(file, keyring)


def test_nobody_else_may_read_the_files(file: StoreFile) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in file.path.parent.iterdir()}
    assert modes == {0o600}

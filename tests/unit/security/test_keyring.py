import json
import multiprocessing
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.config import Config
from app.security.keyring import EnvironmentKeyring, FileKeyring, MasterKeys, open_keyring
from app.security.secrets import SecretError

VARIABLE = "MAINSPRING_MASTER_KEYS"
DATA_KEY = bytes(range(32))
ONE, TWO = "11" * 32, "22" * 32


@pytest.fixture(autouse=True)
def _no_keys_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def ring(tmp_path: Path) -> FileKeyring:
    return FileKeyring(tmp_path / "keys" / "keyring.json")


def test_the_first_key_is_made_when_it_is_needed_and_only_its_owner_reads_it(
    ring: FileKeyring, tmp_path: Path
) -> None:
    file = tmp_path / "keys" / "keyring.json"
    assert ring.ids() == ()
    assert not file.exists()
    key_id = ring.current()
    assert ring.ids() == (key_id,)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert FileKeyring(file).current() == key_id


def test_a_wrapped_key_is_given_back_and_does_not_show(ring: FileKeyring) -> None:
    key_id = ring.current()
    wrapped, again = ring.wrap(DATA_KEY, key_id), ring.wrap(DATA_KEY, key_id)
    assert ring.unwrap(wrapped, key_id) == ring.unwrap(again, key_id) == DATA_KEY
    assert wrapped != again
    assert DATA_KEY not in wrapped


@pytest.mark.parametrize("place", [0, 12, -1])
def test_an_altered_wrapping_is_refused(ring: FileKeyring, place: int) -> None:
    key_id = ring.current()
    wrapped = bytearray(ring.wrap(DATA_KEY, key_id))
    wrapped[place] ^= 1
    with pytest.raises(SecretError, match="does not open the file's key"):
        ring.unwrap(bytes(wrapped), key_id)


def test_a_key_of_another_ring_is_refused_by_its_id(ring: FileKeyring, tmp_path: Path) -> None:
    other = FileKeyring(tmp_path / "other.json")
    wrapped = other.wrap(DATA_KEY, other.current())
    ring.current()
    with pytest.raises(SecretError, match=f"has no master key {other.current()}"):
        ring.unwrap(wrapped, other.current())


def test_renewing_adds_a_key_that_a_process_sees_which_already_ran(
    ring: FileKeyring, tmp_path: Path
) -> None:
    running = FileKeyring(tmp_path / "keys" / "keyring.json")
    old = running.current()
    wrapped = running.wrap(DATA_KEY, old)
    new = ring.renew()
    assert running.current() == new != old
    assert running.unwrap(wrapped, old) == DATA_KEY


def test_a_rotation_that_was_cut_off_goes_on_with_its_key(ring: FileKeyring) -> None:
    old = ring.current()
    new = ring.renew()
    assert ring.renew() == new
    assert ring.retire(old)
    assert ring.ids() == (new,)
    assert ring.renew() != new


def test_a_retired_key_opens_nothing_and_the_current_one_is_not_retired(ring: FileKeyring) -> None:
    old = ring.current()
    wrapped = ring.wrap(DATA_KEY, old)
    with pytest.raises(SecretError, match="is in use"):
        ring.retire(old)
    ring.renew()
    ring.retire(old)
    with pytest.raises(SecretError, match="has no master key"):
        ring.unwrap(wrapped, old)


def _renew_and_retire(file: Path) -> None:
    ring = FileKeyring(file)
    for _ in range(20):
        new = ring.renew()
        for key_id in ring.ids():
            if key_id not in (new, ring.current()):
                ring.retire(key_id)


def test_processes_that_change_a_ring_together_leave_it_whole(tmp_path: Path) -> None:
    file = tmp_path / "keyring.json"
    first = FileKeyring(file).current()
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_renew_and_retire, args=(file,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    ring = FileKeyring(file)
    assert 1 <= len(ring.ids()) <= 2
    assert first not in ring.ids()
    assert ring.unwrap(ring.wrap(DATA_KEY, ring.current()), ring.current()) == DATA_KEY


def test_those_who_need_the_first_key_together_get_one(tmp_path: Path) -> None:
    file = tmp_path / "keyring.json"
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: FileKeyring(file).current(), range(32)))
    assert len(ids) == 1


def test_a_file_that_others_read_is_refused(ring: FileKeyring, tmp_path: Path) -> None:
    key_id = ring.current()
    (tmp_path / "keys" / "keyring.json").chmod(0o640)
    with pytest.raises(SecretError, match="mode 0640 lets others read the key; run chmod 600"):
        FileKeyring(tmp_path / "keys" / "keyring.json").wrap(DATA_KEY, key_id)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("no json", "it is no JSON"),
        ({"current": "a", "keys": {"b": ONE}}, "current key a is not among"),
        ({"current": "a", "keys": {"a": "11" * 16}}, "must have 32 bytes, got 16"),
        ({"current": "a", "keys": {"a": "secret" * 10}}, "must be hexadecimal"),
        ({"current": "a/b", "keys": {"a/b": ONE}}, "id must be 1 to 20"),
        ({"current": "a", "keys": {"a": ONE}, "more": 1}, "Extra inputs"),
    ],
)
def test_a_spoilt_ring_is_refused_and_its_keys_are_not_told(
    tmp_path: Path, content: object, problem: str
) -> None:
    file = tmp_path / "keyring.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    file.chmod(0o600)
    with pytest.raises(SecretError, match=problem) as raised:
        FileKeyring(file).current()
    assert "11" * 8 not in str(raised.value)
    assert "secretsecret" not in str(raised.value)


def test_keys_do_not_show_when_a_ring_is_printed() -> None:
    keys = MasterKeys.model_validate({"current": "a", "keys": {"a": ONE}})
    assert ONE not in repr(keys)
    assert "\\x11" not in repr(keys)


def test_a_lost_ring_is_not_replaced_while_there_is_what_it_sealed(tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    (tables / "events").mkdir(parents=True)
    (tables / "events" / "part-1.sealed-k1x00.parquet").touch()
    ring = FileKeyring(tmp_path / "keyring.json", sealed=[tables])
    with pytest.raises(SecretError, match="restore the keyring"):
        ring.current()


def test_the_environment_wins_and_its_last_key_is_current(
    flights: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(open_keyring(flights), FileKeyring)
    monkeypatch.setenv(VARIABLE, f"a:{ONE}, b:{TWO}")
    ring = open_keyring(flights)
    assert isinstance(ring, EnvironmentKeyring)
    assert (ring.ids(), ring.current(), ring.renew()) == (("a", "b"), "b", "b")
    assert ring.unwrap(ring.wrap(DATA_KEY, "a"), "a") == DATA_KEY
    assert not ring.retire("a")
    assert not (flights.workspace / "keys").exists()


@pytest.mark.parametrize("text", ["", "a", f"a:{ONE},a:{TWO}", "a:zz", f"a:{ONE},"])
def test_keys_of_the_environment_that_cannot_be_used_are_refused(text: str) -> None:
    with pytest.raises(SecretError, match=VARIABLE):
        EnvironmentKeyring({VARIABLE: text})

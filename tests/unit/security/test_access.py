"""Keys: made once, kept as hashes, checked, expired, revoked."""

import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.security.access import KEY, AccessDenied, KeyRefused, Keyring

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def keyring(workspace: Path) -> Keyring:
    return Keyring(workspace)


def test_a_key_names_its_principal_and_no_other_key_does(keyring: Keyring) -> None:
    first = keyring.create("shop", ["label", "predict"], NOW).get_secret_value()
    second = keyring.create("desk", ["audit"], NOW).get_secret_value()

    assert first != second
    assert KEY.fullmatch(first)
    assert keyring.authenticate(first, NOW).name == "shop"
    assert keyring.authenticate(first, NOW).roles == ("predict", "label")
    assert keyring.authenticate(second, NOW).may("audit")
    assert not keyring.authenticate(second, NOW).may("predict")
    for wrong in ("", "msk_", first[:-1], first + "x", first.swapcase(), "msk_" + "A" * 43):
        with pytest.raises(AccessDenied):
            keyring.authenticate(wrong, NOW)


def test_the_file_holds_hashes_and_is_its_owners_alone(keyring: Keyring) -> None:
    key = keyring.create("shop", ["predict"], NOW)

    content = keyring.file.read_text()
    assert key.get_secret_value() not in content
    assert key.get_secret_value()[4:] not in content
    assert stat.S_IMODE(keyring.file.stat().st_mode) == 0o600
    assert [file.name for file in keyring.file.parent.iterdir()] == ["api_keys.json"]
    assert key.get_secret_value() not in repr(key)


def test_a_key_stops_when_it_expires_and_when_it_is_revoked(keyring: Keyring) -> None:
    brief = keyring.create("brief", ["predict"], NOW, NOW + HOUR).get_secret_value()
    other = keyring.create("other", ["predict"], NOW).get_secret_value()

    assert keyring.authenticate(brief, NOW + HOUR - timedelta(seconds=1))
    with pytest.raises(AccessDenied, match="expired"):
        keyring.authenticate(brief, NOW + HOUR)
    assert keyring.revoke("other", NOW) == 1
    assert keyring.revoke("other", NOW) == 0
    with pytest.raises(AccessDenied, match="revoked"):
        keyring.authenticate(other, NOW)
    assert [key.name for key in keyring.list()] == ["brief", "other"]


def test_another_process_s_change_is_seen_at_once(workspace: Path, keyring: Keyring) -> None:
    key = keyring.create("shop", ["predict"], NOW).get_secret_value()
    serving = Keyring(workspace)
    assert serving.authenticate(key, NOW)

    keyring.revoke("shop", NOW)
    with pytest.raises(AccessDenied):
        serving.authenticate(key, NOW)
    again = keyring.create("shop", ["predict"], NOW).get_secret_value()
    assert serving.authenticate(again, NOW)


def test_what_cannot_be_made_is_refused_with_what_to_change(keyring: Keyring) -> None:
    keyring.create("shop", ["predict"], NOW)

    with pytest.raises(KeyRefused, match="shop has an open key already; revoke it"):
        keyring.create("shop", ["predict"], NOW)
    with pytest.raises(KeyRefused, match="no role cannot be"):
        keyring.create("nothing", [], NOW)
    with pytest.raises(KeyRefused, match="a name has letters"):
        keyring.create("../shop", ["predict"], NOW)
    with pytest.raises(KeyRefused, match="has passed"):
        keyring.create("late", ["predict"], NOW, NOW)
    assert [key.name for key in keyring.list()] == ["shop"]


def test_a_file_that_others_read_or_that_is_none_opens_nothing(keyring: Keyring) -> None:
    key = keyring.create("shop", ["predict"], NOW).get_secret_value()
    keyring.file.chmod(0o644)
    with pytest.raises(KeyRefused, match="chmod 600"):
        Keyring(keyring.file.parent.parent).authenticate(key, NOW)
    keyring.file.chmod(0o600)
    keyring.file.write_text('{"keys": [{"name": "shop"}]}')
    with pytest.raises(KeyRefused, match="restore the file"):
        keyring.authenticate(key, NOW)


def test_readers_never_see_half_a_file(keyring: Keyring) -> None:
    key = keyring.create("shop", ["predict"], NOW).get_secret_value()
    problems: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        reader = Keyring(keyring.file.parent.parent)
        while not done.is_set():
            try:
                reader.authenticate(key, NOW)
            except (AccessDenied, KeyRefused) as error:
                problems.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    for number in range(30):
        keyring.create(f"k{number}", ["audit"], NOW)
    done.set()
    reading.join()
    assert problems == []
    assert len(keyring.list()) == 31

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.config import Config
from app.security.secrets import SecretError, named_secret, pseudonym_key


@pytest.fixture(autouse=True)
def _no_key_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAINSPRING_PSEUDONYM_KEY", raising=False)


def test_a_new_key_is_readable_by_its_owner_only_and_stays_the_same(flights: Config) -> None:
    first = pseudonym_key(flights)

    file = flights.workspace / "keys" / "pseudonym.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert pseudonym_key(flights) == first
    assert [entry.name for entry in file.parent.iterdir()] == ["pseudonym.key"]


def test_workspaces_have_keys_of_their_own(flights: Config) -> None:
    other = flights.model_copy(update={"workspace": flights.workspace / "other"})
    assert pseudonym_key(flights) != pseudonym_key(other)


def test_processes_that_start_together_agree_on_one_key(flights: Config) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: pseudonym_key(flights).get_secret_value(), range(32)))
    assert len(set(keys)) == 1


def test_the_environment_wins_and_writes_no_file(
    flights: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINSPRING_PSEUDONYM_KEY", "ab" * 16)
    assert pseudonym_key(flights).get_secret_value() == b"\xab" * 16
    assert not (flights.workspace / "keys").exists()


@pytest.mark.parametrize(
    ("text", "problem"), [("zz" * 16, "hexadecimal"), ("ab" * 4, "got 4 bytes")]
)
def test_an_unusable_key_is_refused_without_being_shown(
    flights: Config, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.setenv("MAINSPRING_PSEUDONYM_KEY", text)
    with pytest.raises(SecretError, match=problem) as caught:
        pseudonym_key(flights)
    assert text not in str(caught.value)


def test_a_key_that_others_can_read_is_refused(flights: Config) -> None:
    pseudonym_key(flights)
    (flights.workspace / "keys" / "pseudonym.key").chmod(0o644)
    with pytest.raises(SecretError, match="chmod 600"):
        pseudonym_key(flights)


def test_a_key_shows_in_no_message(flights: Config) -> None:
    key = pseudonym_key(flights)
    assert key.get_secret_value().hex() not in f"{key!r} {key}"


def test_a_named_secret_comes_from_the_environment_or_from_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SecretError, match="SHOP_URL: is not set; set it, or SHOP_URL_FILE"):
        named_secret("SHOP_URL")
    file = tmp_path / "url"
    file.write_text("sqlite:///hush\n")
    monkeypatch.setenv("SHOP_URL_FILE", str(file))
    with pytest.raises(SecretError, match="lets others read the key"):
        named_secret("SHOP_URL")
    file.chmod(0o600)
    assert named_secret("SHOP_URL").get_secret_value() == "sqlite:///hush"
    monkeypatch.setenv("SHOP_URL", "sqlite:///first")
    assert named_secret("SHOP_URL").get_secret_value() == "sqlite:///first"
    assert "first" not in repr(named_secret("SHOP_URL"))

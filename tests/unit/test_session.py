import stat
from pathlib import Path

from app.config import Config
from app.session import _free_ports, _token_file, namespace


def test_the_token_is_made_once_and_readable_by_its_owner_only(workspace: Path) -> None:
    file = _token_file(workspace)
    token = file.read_text()
    assert len(token) >= 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert _token_file(workspace).read_text() == token


def test_another_workspace_has_another_token(tmp_path: Path) -> None:
    one, other = (_token_file(tmp_path / name).read_text() for name in ("a", "b"))
    assert one != other


def test_ports_are_distinct() -> None:
    assert len(set(_free_ports(8))) == 8


def test_models_have_namespaces_of_their_own(flights: Config) -> None:
    assert namespace(flights) != namespace(flights.model_copy(update={"name": "fraud"}))

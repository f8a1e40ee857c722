"""How requests reach a cluster's replicas: HAProxy where it can run, Serve's proxy elsewhere."""

from pathlib import Path

import pytest

from app import ingress
from app.ingress import NoHaproxy, serve_environment

# A socket's path may have 97 characters for HAProxy, and the node's 56 digits are among them.
LONGEST, NODE = 97, 56


def ports(count: int) -> list[int]:
    return list(range(20_000, 20_000 + count))


def hide_haproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "find_spec", lambda name: None)
    monkeypatch.setattr(ingress.shutil, "which", lambda name: None)


def test_replicas_answer_themselves_behind_haproxy_with_ports_and_files_of_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingress, "find_spec", lambda name: object())
    folder = Path("/tmp/mainspring-abcdefgh")
    environment = serve_environment("auto", folder, ports)

    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    own = [value for name, value in environment.items() if name.endswith(("_PORT",))]
    assert sorted(own) == ["20000", "20001", "20002"]
    files = [Path(value) for value in environment.values() if value.startswith("/")]
    assert {folder, *files} == {folder, *(file for file in files if folder in (file, file.parent))}
    sockets = [file for file in files if file.suffix == ".sock"]
    assert len(sockets) == 2
    assert all(len(str(socket)) + 1 + NODE <= LONGEST for socket in sockets)


@pytest.mark.parametrize("chosen", ["auto", "proxy"])
def test_without_haproxy_serves_own_proxy_takes_requests(
    chosen: ingress.Ingress, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_haproxy(monkeypatch)
    assert serve_environment(chosen, Path("/tmp/x"), ports) == {}


def test_haproxy_that_is_asked_for_and_absent_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide_haproxy(monkeypatch)
    with pytest.raises(NoHaproxy, match=r"cluster\.ingress.*set cluster\.ingress to proxy"):
        serve_environment("haproxy", Path("/tmp/x"), ports)

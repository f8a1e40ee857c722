"""The endpoint on Ray Serve: answers, switches in running replicas, survives a killed one."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Config, load_config
from app.data.tables import open_tables
from app.ledger.database import Ledger, open_ledger
from app.registry.store import live_replicas
from app.security.access import ROLES, Keyring
from tests.serving_world import give_roles, make_rows, put_version
from tests.waiting import wait_until

pytestmark = pytest.mark.ray


@dataclass
class Served:
    """A model served on the session's cluster."""

    config: Config
    ledger: Ledger
    url: str
    champion: str
    key: dict[str, str]

    def post(self, path: str, body: Any) -> httpx.Response:
        """Send one request to the model."""
        return httpx.post(f"{self.url}/v1/flights/{path}", json=body, headers=self.key, timeout=30)

    def version(self) -> str | None:
        """Say which version answers now."""
        version: str | None = httpx.get(f"{self.url}/readyz", timeout=30).json().get("version")
        return version


@pytest.fixture(scope="module")
def served(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One endpoint for the tests of this file, with a first champion."""
    from app.serving.application import deploy, withdraw

    workspace = tmp_path_factory.mktemp("serving") / "workspace"
    overrides = [f"workspace={workspace}", "serving.port=0"]
    config = load_config("configs/flights.yaml", overrides)
    ledger = open_ledger(config.ledger_url)
    champion = put_version(config, ledger, seed=1)
    give_roles(ledger, config.name, champion)
    key = Keyring(workspace).create("test", ROLES, datetime.now(UTC))
    headers = {"x-api-key": key.get_secret_value()}
    world = Served(config, ledger, deploy(config), champion, headers)
    wait_until(lambda: world.version() == champion)
    yield world
    withdraw(config)
    ledger.close()


def test_rows_are_answered_and_logged(served: Served) -> None:
    rows = make_rows(served.config.contract, 20, first=1000)

    answer = served.post("predict", {"rows": rows})

    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == served.champion
    tables = open_tables(served.config)
    ids = {row["flight_id"] for row in rows}
    wait_until(lambda: ids <= set(tables.read("predictions")["row_id"].to_pylist()))
    assert ids <= set(tables.read("events")["flight_id"].to_pylist())


def test_rows_are_explained_by_the_champion(served: Served) -> None:
    rows = make_rows(served.config.contract, 2, first=5000)
    answer = served.post("explain", {"rows": rows})
    assert answer.status_code == 200, answer.text
    predicted = served.post("predict", {"rows": rows}).json()["predictions"]
    body = answer.json()
    for one, prediction in zip(body["explanations"], predicted, strict=True):
        assert abs(one["probability"] - prediction["probability"]) <= 1e-6
        total = sum(each["attribution"] for each in one["attributions"])
        assert abs(one["value"] - body["reference"]["value"] - total) <= one["tolerance"]


def test_errors_keep_their_status_and_shape_behind_the_proxy(served: Served) -> None:
    answers = {
        400: served.post("predict", []),
        401: httpx.get(f"{served.url}/nowhere"),
        404: httpx.get(f"{served.url}/nowhere", headers=served.key),
        405: httpx.get(f"{served.url}/v1/flights/predict", headers=served.key),
        422: served.post("predict", {"rows": [{"flight_id": 5}]}),
    }

    assert {status: answer.status_code for status, answer in answers.items()} == {
        status: status for status in answers
    }
    assert all(
        set(answer.json()["error"]) == {"where", "got", "change"} for answer in answers.values()
    )


def test_a_promotion_reaches_the_running_replica_and_is_acknowledged(served: Served) -> None:
    before = live_replicas(served.ledger, "flights", time.time())
    second = put_version(served.config, served.ledger, seed=2)
    roles = give_roles(served.ledger, "flights", second, previous=served.champion)

    wait_until(lambda: served.version() == second)

    def acknowledged() -> bool:
        replicas = live_replicas(served.ledger, "flights", time.time())
        return [replica.generation for replica in replicas] == [roles.generation]

    wait_until(acknowledged)
    after = live_replicas(served.ledger, "flights", time.time())
    assert [replica.replica for replica in after] == [replica.replica for replica in before]
    assert set(after[0].resident) == {served.champion, second}


def test_a_killed_replica_is_replaced_and_its_spool_is_shipped_by_the_next(served: Served) -> None:
    contract = served.config.contract
    acknowledged = set()
    for number in range(10):
        rows = make_rows(contract, 5, first=2000 + 10 * number)
        acknowledged |= {
            item["row_id"] for item in served.post("predict", {"rows": rows}).json()["predictions"]
        }
    [spool] = [path for path in served.config.spool_path.iterdir() if path.is_dir()]

    os.kill(owner_of(spool), signal.SIGKILL)

    tables = open_tables(served.config)
    wait_until(lambda: acknowledged <= set(tables.read("predictions")["row_id"].to_pylist()))
    logged = [
        name for name in tables.read("predictions")["row_id"].to_pylist() if name in acknowledged
    ]
    assert len(logged) == len(acknowledged) == 50
    wait_until(lambda: not spool.exists())
    rows = make_rows(contract, 1, first=3000)
    assert served.post("predict", {"rows": rows}).status_code == 200


def owner_of(spool: Path) -> int:
    """Find the process that holds a spool's lock."""
    inode = (spool / "lock").stat().st_ino
    held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    [pid] = [int(words[4]) for words in held if words[5].endswith(f":{inode}")]
    return pid


def test_a_serve_file_names_a_configuration_and_overrides(tmp_path: Path) -> None:
    from ray.serve import Application
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

    from app.serving.application import build

    args = {"config": "configs/flights.yaml", "set": [f"workspace={tmp_path}"]}

    assert isinstance(call_user_app_builder_with_args_if_necessary(build, args), Application)
    with pytest.raises(ValueError, match="conf"):
        call_user_app_builder_with_args_if_necessary(build, {**args, "conf": "x"})

"""Every status that OpenAPI documents can be had, in the form and with the headers that it says.

That no other status comes is what tests/contract asks; here is the other half: nothing is promised
that does not come, and no status is named in the code that no operation documents.
"""

import ast
import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp

import app.serving
from app.contracts.access import Limits
from app.serving import inference
from app.serving.api import build_api
from app.serving.desk import Desk
from app.serving.documentation import MEANINGS
from app.serving.predictor import Predictor
from app.serving.replica import Replica, ReplicaUnwell
from app.serving.residents import Residents
from tests.serving_world import make_rows
from tests.tensor_bodies import tensors_of
from tests.unit.serving.conftest import World

NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Operations:
    """The operations of a world's document, and whoever asks them."""

    world: World

    @cached_property
    def app(self) -> ASGIApp:
        """The endpoint, with a short time for bodies."""
        serving = self.world.config.serving.model_copy(update={"body_seconds": 0.05})
        config = self.world.config.model_copy(update={"serving": serving})
        self.world.replica.predictor = replace(self.world.replica.predictor, config=config)
        return build_api(self.world.replica)

    @cached_property
    def client(self) -> TestClient:
        """A client that sends no key of itself."""
        return TestClient(self.app, raise_server_exceptions=False)

    @cached_property
    def document(self) -> dict[str, Any]:
        """What is published."""
        found: dict[str, Any] = self.world.client.get("/openapi.json").json()
        return found

    def documenting(self, status: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Name the operations that document a status, with what they say of it."""
        for path, methods in self.document["paths"].items():
            for method, described in methods.items():
                if str(status) in described["responses"]:
                    yield method.upper(), path, described["responses"][str(status)]

    def filled(self, path: str, model: str = "flights") -> str:
        """Fill the parts of a path that are left open."""
        path = path.replace("{model}", model).replace("{version}", self.world.champion)
        return path.replace("{prediction_id}", self.prediction_id)

    @cached_property
    def prediction_id(self) -> str:
        """A prediction that was made and is in the tables."""
        rows = {"rows": make_rows(self.world.config.contract, 1)}
        answer = self.world.client.post("/v1/flights/predict", json=rows).json()
        self.world.replica.ship()
        return str(answer["predictions"][0]["prediction_id"])

    def body(self, path: str) -> dict[str, Any]:
        """Give a body that an operation takes."""
        if path.endswith("/labels"):
            return {"labels": [{"row_id": "row-1", "label": 1}]}
        rows = make_rows(self.world.config.contract, 1)
        if not path.endswith("/infer"):
            return {"rows": rows}
        tensors, _ = tensors_of(self.world.config.contract, rows)
        for tensor in tensors:
            tensor |= {"parameters": {}, "data": [rows[0][tensor["name"]]]}
        return {"inputs": tensors}

    def key(self, name: str, *roles: Any, **limits: float) -> dict[str, str]:
        """Make a key and give the header that shows it."""
        created = self.world.keyring.create(name, roles, NOW, limits=Limits(**limits))
        return {"x-api-key": created.get_secret_value()}

    def ask(self, method: str, path: str, status: int, key: dict[str, str]) -> Any:
        """Ask an operation so that its answer has a status."""
        url, post = self.filled(path, "boats" if status == 404 else "flights"), method == "POST"
        if status == 408:
            return asyncio.run(never_sending(self.app, url, key))
        if status in (400, 413, 415):
            content = b"x" * (2**20 + 1) if status == 413 else b"{"
            kind = {"content-type": "text/csv" if status == 415 else "application/json"}
            return self.client.post(url, content=content, headers=key | kind)
        if status == 422:
            name = "labels" if path.endswith("/labels") else "rows"
            return self.client.post(url, json={name: [{}]}, headers=key)
        asked = "PATCH" if status == 405 else method
        return self.client.request(
            asked, url, json=self.body(path) if post else None, headers=key if status != 401 else {}
        )


async def never_sending(app: ASGIApp, path: str, key: dict[str, str]) -> Any:
    """Ask with a body that never comes; give what a client would have read."""
    told: list[dict[str, Any]] = []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        told.append(message)

    headers = [(name.encode(), value.encode()) for name, value in key.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": headers,
        "query_string": b"",
    }
    await app(
        {**scope, "raw_path": path.encode(), "root_path": "", "scheme": "http"}, receive, send
    )
    return _Told(told[0]["status"], dict(told[0]["headers"]), told[1]["body"])


@dataclass(frozen=True)
class _Told:
    status_code: int
    raw: dict[bytes, bytes]
    content: bytes

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.raw.items()}

    def json(self) -> Any:
        return orjson.loads(self.content)


@pytest.fixture
def operations(world: World) -> Operations:
    return Operations(world)


def fail(*given: Any, **more: Any) -> Any:
    raise ZeroDivisionError


def be_unwell(*given: Any) -> None:
    raise ReplicaUnwell("a thread has ended")


def break_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something that each handler needs fail in a way that nobody foresaw."""
    for owner, name in (
        (Desk, "read"),
        (Replica, "check_health"),
        (Replica, "metadata"),
        (Replica, "receipt"),
        (Predictor, "readiness"),
        (inference, "ServerMetadata"),
    ):
        monkeypatch.setattr(owner, name, fail)


@pytest.mark.parametrize("status", [200, *MEANINGS])
def test_every_documented_status_comes_as_it_is_described(
    operations: Operations, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    documented = list(operations.documenting(status))
    assert documented, f"no operation documents {status}"
    key = operations.key("all", "predict", "label", "explain", "audit")
    # Asked for while everything works.
    assert operations.prediction_id
    if status == 403:
        key = operations.key("trainer", "train")
    if status == 429:
        key = operations.key(
            "slow", "predict", "label", "explain", "audit", requests_per_second=0.001
        )
        operations.client.get("/v2", headers=key)
    if status == 500:
        break_everything(monkeypatch)
    if status == 503:
        nobody = Residents(operations.world.config.contract, fail)
        replica = operations.world.replica
        replica.predictor = replace(replica.predictor, residents=nobody)
        operations.world.keyring.file.write_text("no keys")
        monkeypatch.setattr(Replica, "check_health", be_unwell)

    for method, path, described in documented:
        answer = operations.ask(method, path, status, key)

        assert answer.status_code == status, (method, path, answer.content[:300])
        kind = answer.headers["content-type"]
        schema = described["content"][kind]["schema"]
        whole = {**schema, "components": operations.document["components"]}
        jsonschema.validate(answer.json(), whole)
        for name, header in described.get("headers", {}).items():
            assert not header.get("required") or answer.headers.get(name.lower()), (path, name)


def test_the_code_names_no_status_that_is_not_documented() -> None:
    named = set()
    for file in Path(app.serving.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refused":
                given = [n for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant)]
                named |= {n.value for n in given if type(n.value) is int}
    # 431 is of a line, before there is a request of which a document could speak.
    assert named - {431} == set(MEANINGS)

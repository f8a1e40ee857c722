"""The list of what may be entered: every route is in it, and nothing else opens."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from app.contracts.access import ROLES
from app.serving.api import build_api, build_routes
from app.serving.desk import Desk
from app.serving.doors import Doors, open_gate
from app.serving.entrances import ENTRANCES, Entrances
from app.serving.refusals import answer_refusal
from tests.unit.serving.conftest import World

KINDS = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "CONNECT"]


async def nobody(*given: Any) -> Any:
    """Answer nothing."""


def routes_of(routes: list[BaseRoute]) -> list[tuple[str, str]]:
    """Give the method and path of every route; whatever has none of its own is an error."""
    found = []
    for route in routes:
        assert not isinstance(route, Mount), f"{route.path} is mounted: no entrance covers it"
        assert isinstance(route, Route), f"{route} is no HTTP route: no entrance covers it"
        found += [(method, route.path) for method in route.methods or KINDS]
    return found


def application(world: World) -> FastAPI:
    """Build what lies behind the doors."""
    desk = Desk(world.config.serving)
    return build_routes(world.replica, desk)


def test_every_route_of_the_endpoint_has_an_entrance(world: World) -> None:
    there = routes_of(application(world).routes)

    listed = {(m, path) for m, path in there if (m if m != "HEAD" else "GET", path) in ENTRANCES}
    missing = sorted(set(there) - listed)
    assert not missing, f"app/serving/entrances.py lists no roles for {missing}; add them"
    assert len(there) > 8


def test_the_check_finds_a_route_that_is_not_listed(world: World) -> None:
    api = application(world)
    api.add_api_route("/v1/{model}/secret", nobody, methods=["GET"])
    api.add_api_route("/healthz", nobody, methods=["DELETE"])

    missing = {route for route in routes_of(api.routes) if route not in ENTRANCES}
    assert {("GET", "/v1/{model}/secret"), ("DELETE", "/healthz")} <= missing


def test_a_route_that_is_not_listed_is_closed_to_everybody(world: World) -> None:
    api = application(world)
    reached: list[str] = []

    async def secret() -> dict[str, Any]:
        reached.append("secret")
        return {}

    api.add_api_route("/v1/{model}/secret", secret, methods=["GET"])
    api.add_api_route("/v1/{model}/metadata", secret, methods=["DELETE"])
    gate = open_gate(world.config, world.replica.budgets)
    doors = Doors(api, gate, world.replica.wall, answer_refusal)
    client = TestClient(doors, raise_server_exceptions=False)
    key = {"Authorization": world.client.headers["Authorization"]}

    answers = [client.get("/v1/flights/secret", headers=given) for given in ({}, key)]
    answers += [client.delete("/v1/flights/metadata", headers=given) for given in ({}, key)]

    assert [answer.status_code for answer in answers] == [401, 404, 401, 405]
    assert answers[3].headers["allow"] == "GET"
    assert reached == []


def test_a_stranger_cannot_tell_a_path_that_exists_from_one_that_does_not(world: World) -> None:
    client = TestClient(build_api(world.replica), raise_server_exceptions=False)
    paths = ["/v1/flights/predict", "/v1/boats/predict", "/v1/flights/nothing", "/", "/nowhere"]
    answers = [client.request(m, path) for path in paths for m in ("GET", "POST", "DELETE")]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert len({tuple(sorted(answer.headers.items())) for answer in answers}) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/healthz/",
        "//healthz",
        "/healthz/../v1/flights/metadata",
        "/v1//metadata",
        "/v1/flights/metadata/",
        "/V1/flights/metadata",
        "/v1/flights/predictions/",
        "/v1/flights/predictions/a/b",
        "/v1/{model}/secret",
        "",
    ],
)
def test_only_a_path_as_it_is_listed_is_found(path: str) -> None:
    assert Entrances().find(path) is None


def test_every_role_of_the_list_exists_and_what_watches_health_needs_none() -> None:
    assert {role for roles in ENTRANCES.values() for role in roles} <= set(ROLES)
    opened = {path for (_, path), roles in ENTRANCES.items() if not roles}
    assert opened == {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
    for (method, path), roles in ENTRANCES.items():
        for entrances in (Entrances(), Entrances(model="model")):
            entrance = entrances.find(path.replace("{", "").replace("}", ""))
            assert entrance is not None
            assert entrance.roles(method) == roles


def test_a_web_socket_is_closed_too(world: World) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the doors were open")

    gate = open_gate(world.config, world.replica.budgets)
    answered: list[int] = []

    def answer(refusal: Any) -> Any:
        answered.append(refusal.status)
        return nobody

    doors = Doors(app, gate, world.replica.wall, answer)
    for path in ("/healthz", "/v1/flights/predict"):
        scope = {"type": "websocket", "path": path, "headers": []}
        asyncio.run(doors(scope, nobody, nobody))
    assert answered == [401, 401]

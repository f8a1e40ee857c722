"""What Serve's server calls is passed by only where Serve is set up as is known."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private.common import RequestMetadata
from ray.serve._private.http_util import RequestIdMiddleware
from ray.serve._private.replica import Replica
from ray.serve.config import HTTPOptions
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.serving.straight import Straight, past_serve


class Metrics:
    """Notes what Serve would count."""

    def __init__(self) -> None:
        self.ongoing = 0

    def inc_num_ongoing_requests(self, described: RequestMetadata) -> None:
        assert described.is_direct_ingress
        self.ongoing += 1

    def dec_num_ongoing_requests(self, described: RequestMetadata) -> None:
        self.ongoing -= 1


async def served(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/broken":
        raise RuntimeError("a fault")
    name = dict(scope["headers"])[b"x-request-id"].decode()
    await PlainTextResponse(name, 201)(scope, receive, send)


def serves(app: ASGIApp = served, **changed: Any) -> tuple[Replica, ASGIApp]:
    """Make a replica of Serve's as far as its way in goes, and what its server would call."""
    replica = object.__new__(Replica)
    replica._http_options = HTTPOptions()
    replica._route_prefix = "/"
    replica._deployment_id = SimpleNamespace(app_name="flights", name="replica")
    replica._user_callable_asgi_app = app
    replica._user_callable_wrapper = SimpleNamespace(_run_user_code_in_separate_thread=False)
    replica._metrics_manager = Metrics()
    replica.noted = []
    replica._record_errors_and_metrics = lambda *noted: replica.noted.append(noted)
    for name, value in changed.items():
        setattr(replica, name, value)
    return replica, ProxyHeadersMiddleware(RequestIdMiddleware(replica._direct_ingress_asgi))


def ask(app: ASGIApp, path: str, *headers: tuple[bytes, bytes]) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    asyncio.run(app(scope, receive, send))
    return sent


def test_a_request_is_answered_named_and_counted() -> None:
    replica, chain = serves()
    way = past_serve(chain)
    assert isinstance(way, Straight)

    head, body = ask(way, "/v1/flights/predict", (b"x-request-id", b"mine"))

    assert (head["status"], body["body"]) == (201, b"mine")
    assert [value for name, value in head["headers"] if name == b"x-request-id"] == [b"mine"]
    [(error, status, milliseconds, described)] = replica.noted
    assert (error, status, replica._metrics_manager.ongoing) == (None, "201", 0)
    assert milliseconds >= 0
    told = (described.route, described.app_name, described._http_method)
    assert told == ("/", "flights", "POST")


@pytest.mark.parametrize("given", [(), ((b"x-request-id", b""),)])
def test_a_request_without_an_id_gets_one(given: tuple[tuple[bytes, bytes], ...]) -> None:
    head, body = ask(past_serve(serves()[1]), "/", *given)

    assert len(body["body"]) == 32
    assert (b"x-request-id", body["body"]) in head["headers"]


def test_a_fault_is_counted_as_one_logged_and_left_to_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replica, chain = serves()

    with pytest.raises(RuntimeError, match="a fault"):
        ask(past_serve(chain), "/broken")

    assert [(status, replica._metrics_manager.ongoing) for _, status, *_ in replica.noted] == [
        ("500", 0)
    ]
    assert "did not answer" in caplog.text


def test_serves_own_paths_stay_its_own() -> None:
    async def health(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("healthy")(scope, receive, send)

    replica, _ = serves()

    _, body = ask(Straight(health, replica, lambda: 0.0), "/-/healthz")

    assert body["body"] == b"healthy"
    assert not replica.noted


@pytest.mark.parametrize(
    "changed",
    [
        {"_route_prefix": "/elsewhere"},
        {"_http_options": HTTPOptions(root_path="/below")},
        {"_http_options": HTTPOptions(request_timeout_s=3.0)},
        {"_user_callable_wrapper": SimpleNamespace(_run_user_code_in_separate_thread=True)},
        {"_user_callable_asgi_app": None},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_where_serve_does_more_nothing_is_passed_by(
    changed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    _, chain = serves(**changed)

    with caplog.at_level(logging.WARNING):
        assert past_serve(chain) is chain
    assert "longer way" in caplog.text


@pytest.mark.parametrize("name", ["_metrics_manager", "_http_options", "_deployment_id"])
def test_where_serve_has_changed_nothing_is_passed_by(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    replica, chain = serves()
    delattr(replica, name)

    with caplog.at_level(logging.WARNING):
        assert past_serve(chain) is chain
    assert name in caplog.text


def test_what_serve_does_not_call_itself_is_left_alone() -> None:
    _, chain = serves()
    assert past_serve(served) is served
    more = ProxyHeadersMiddleware(RequestIdMiddleware(ProxyHeadersMiddleware(served)))
    assert past_serve(more) is more
    assert isinstance(chain, ProxyHeadersMiddleware)
    within = RequestIdMiddleware(chain)
    assert past_serve(within) is within

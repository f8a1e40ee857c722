"""Hand requests from a replica's server straight to its application, past Ray Serve's own way.

For each request Serve makes a context, two ids and a chain of wrappers, a fifth of what one row
costs, and nothing here reads them. What it counts by it is told all the same: requests under way,
by which it scales and for which it waits before a replica ends, and route, status and time of each.
Its own paths go to it, and everything does where it is not set up as these lines know it. Knows
Serve's replica of one release; knows nothing of what requests say.
"""

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from ray.serve._private import replica as serving
from ray.serve._private.common import RequestMetadata, RequestProtocol
from ray.serve._private.http_util import RequestIdMiddleware
from ray.serve._private.tracing_utils import is_tracing_enabled
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.serving.retries import HEADER, new_request_id

logger = logging.getLogger(__name__)
# Serve's health check and list of routes.
OWN_PATHS = "/-/"
FAILED = "500"


@functools.cache
def past_serve(app: ASGIApp) -> ASGIApp:
    """Give the application to call instead of the one that Serve has given its server.

    It is the same one where Serve does more with a request than count it.
    """
    try:
        replica = _replica_behind(app)
        if replica is not None:
            return Straight(app, replica, time.monotonic)
        found = "it does more with a request"
    # Another release, where something is called or made otherwise.
    except (AttributeError, TypeError) as error:
        found = str(error)
    logger.warning("Serve is not as is known here: requests take its own, longer way; %s", found)
    return app


class Straight:
    """Calls a replica's application itself, and counts as Serve does."""

    def __init__(self, around: ASGIApp, replica: Any, steady: Callable[[], float]) -> None:
        """Leave Serve's own paths to `around`; `steady` gives seconds."""
        self._around, self._replica, self._steady = around, replica, steady
        self._within: ASGIApp = replica._user_callable_asgi_app
        self._metrics = replica._metrics_manager
        self._described = functools.lru_cache(maxsize=16)(self._describe)
        self._described("POST")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; its id, given or made, comes back in the head of the answer."""
        if scope["type"] != "http" or scope["path"].startswith(OWN_PATHS):
            await self._around(scope, receive, send)
            return
        name, status = _named(scope), FAILED

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                message["headers"] = [*message.get("headers", ()), (HEADER, name)]
            await send(message)

        described, began = self._described(scope["method"]), self._steady()
        self._metrics.inc_num_ongoing_requests(described)
        try:
            await self._within(scope, receive, send_named)
        except Exception:
            # Serve has silenced the server's log.
            logger.exception("a request failed that the application did not answer")
            raise
        finally:
            self._metrics.dec_num_ongoing_requests(described)
            milliseconds = (self._steady() - began) * 1000
            self._replica._record_errors_and_metrics(None, status, milliseconds, described)

    def _describe(self, method: str) -> RequestMetadata:
        """Describe all requests of one method as Serve would each, without its ids."""
        return RequestMetadata(
            request_id="",
            internal_request_id="",
            route=self._replica._route_prefix,
            app_name=self._replica._deployment_id.app_name,
            is_streaming=True,
            is_direct_ingress=True,
            _http_method=method,
            _request_protocol=RequestProtocol.HTTP,
        )


def _named(scope: Scope) -> bytes:
    """Give a request its id, unless somebody else has."""
    headers = scope["headers"]
    for name, value in headers:
        if name == HEADER and value:
            given: bytes = value
            return given
    made = new_request_id().encode()
    headers.append((HEADER, made))
    return made


def _replica_behind(app: ASGIApp) -> Any:
    """Find Serve's replica behind what its server calls; None where there is more between."""
    if type(app) is not ProxyHeadersMiddleware or type(app.app) is not RequestIdMiddleware:
        return None
    method = app.app._app
    replica = getattr(method, "__self__", None)
    if not isinstance(replica, serving.Replica) or method != replica._direct_ingress_asgi:
        return None
    options, caller = replica._http_options, replica._user_callable_wrapper
    more = (
        replica._route_prefix != "/"
        or options is None
        or options.root_path
        or options.request_timeout_s is not None
        or caller._run_user_code_in_separate_thread
        or replica._user_callable_asgi_app is None
        or is_tracing_enabled()
    )
    return None if more else replica

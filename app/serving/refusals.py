"""Turn whatever goes wrong into an answer: the border where nothing may be a bare 500.

Knows HTTP answers and messages; knows nothing of how an answer comes about.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import wraps

import orjson
from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.serving.documentation import JSON
from app.serving.infer_messages import refusal_text
from app.serving.messages import Refused

logger = logging.getLogger(__name__)
# Where the paths of the Open Inference Protocol begin.
INFERENCE = "/v2"
Handler = Callable[[Request], Awaitable[Response]]


def guarded(handler: Handler) -> Handler:
    """Answer every error of a handler."""

    @wraps(handler)
    async def guarding(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:
            return answer_error(error, f"{request.method} {request.url.path}")

    return guarding


def answer_error(error: Exception, asked: str) -> Response:
    """Answer an error; one that nobody foresaw goes into the log with what was asked."""
    if isinstance(error, Refused):
        return answer_refusal(error)
    if isinstance(error, ClientDisconnect):
        # Nobody is there to read it.
        return Response(status_code=400)
    logger.error("%s failed", asked, exc_info=error)
    return _written(
        Refused(500, "server", "an unexpected fault", "see the server's log; try again")
    )


def answer_refusal(refusal: Refused) -> Response:
    """Write a refusal, and into the log what caused it."""
    if refusal.__cause__ is not None:
        logger.warning("refused: %s", refusal, exc_info=refusal.__cause__)
    return _written(refusal)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    changes = {404: "see /docs for the paths", 405: "see /docs for the methods"}
    refusal = Refused(
        error.status_code,
        "path",
        f"{request.method} {request.url.path[:200]}",
        changes.get(error.status_code, str(error.detail)),
    )
    response = _written(refusal)
    response.headers.update(error.headers or {})
    return response


class RefusalResponse(Response):
    """A refusal, written in the words of the path that was asked for.

    Whoever refuses knows nothing of the Open Inference Protocol, whose errors are one text.
    """

    def __init__(self, refusal: Refused) -> None:
        """Write it as all paths do but those of the protocol."""
        content = refusal.body.model_dump_json(exclude_none=True)
        super().__init__(content, refusal.status, refusal.headers, media_type=JSON)
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        path = scope.get("path", "")
        if path == INFERENCE or path.startswith(f"{INFERENCE}/"):
            self.body = orjson.dumps({"error": refusal_text(self._refusal)})
            self.headers["content-length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def _written(refusal: Refused) -> Response:
    return RefusalResponse(refusal)

"""Answer requests for predictions: small ones on the event loop, in batches where a queue is.

Handing one row to a thread costs as much as scoring it. What would keep the event loop waiting,
large bodies, rows that are judged by column, a clock or windows that are looked up, goes to a
thread. Knows ASGI and a predictor; knows nothing of models, tables or Ray.
"""

import logging
from collections.abc import Sequence
from enum import Enum
from typing import Any

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from app.serving.desk import Desk, content_type, parse
from app.serving.documentation import JSON
from app.serving.doors import charge
from app.serving.gathering import Gathering
from app.serving.messages import PredictRequest, Refused
from app.serving.precision import rounded
from app.serving.refusals import answer_error
from app.serving.replica import Replica

logger = logging.getLogger(__name__)
# A body of so many bytes is parsed in about a tenth of a millisecond.
SMALL_BODY = 32 * 1024
MOST_TOGETHER = 16


class Way(Enum):
    """Where a request goes that was not answered together with others."""

    ALONE = "alone"
    BY_COLUMN = "by column"


class Predicting:
    """Reads a request for predictions from its body and writes the answer."""

    def __init__(self, replica: Replica, desk: Desk) -> None:
        """Answer by a replica's predictor; the desk bounds how much."""
        self._predictor, self._desk = replica.predictor, desk
        self._latencies, self._steady = replica.latencies, replica.steady
        self._digits = self._predictor.config.serving.round_probability_digits
        self._namer = replica.namer
        self._gathering = Gathering(self._together, MOST_TOGETHER)
        self._ways = {
            Way.ALONE: self._predictor.predict,
            Way.BY_COLUMN: self._predictor.predict_by_column,
        }

    async def answer(self, scope: Scope, receive: Receive) -> bytes:
        """Give the answer as JSON. Raises Refused, see Predictor.predict and Desk."""
        self._desk.refuse_if_late()
        body = await self._desk.read(scope, receive)
        # How long a body takes to come is the client's affair, not a want of replicas.
        began = self._steady()
        with self._desk.turn():
            answer = await self._answered(body, scope)
        now = self._steady()
        self._latencies.add(now, now - began)
        return answer

    async def _answered(self, body: bytes, scope: Scope) -> bytes:
        if not self._predictor.is_prompt:
            return await self._desk.work(lambda: self._whole(body, scope))
        if len(body) > SMALL_BODY:
            return await self._desk.compute(lambda: self._whole(body, scope))
        request = self._read(body, scope)
        answer = await self._gathering.ask(request)
        if isinstance(answer, Way):
            longer = self._ways[answer]
            return await self._desk.work(lambda: self._written(longer(request)))
        return self._written(answer)

    def _together(self, requests: Sequence[PredictRequest]) -> Sequence[dict[str, Any] | Way]:
        try:
            return [way or Way.BY_COLUMN for way in self._predictor.predict_together(requests)]
        except Refused:
            raise
        # A fault of one must not be its neighbours': each goes its own way then.
        except Exception:
            if len(requests) == 1:
                raise
            logger.exception("a batch of %d failed; each is tried alone", len(requests))
            return [Way.ALONE] * len(requests)

    def _whole(self, body: bytes, scope: Scope) -> bytes:
        return self._written(self._predictor.predict(self._read(body, scope)))

    def _read(self, body: bytes, scope: Scope) -> PredictRequest:
        request = parse(body, PredictRequest)
        charge(scope, len(request.rows))
        return self._namer.name(request, body, scope["headers"])

    def _written(self, answer: dict[str, Any]) -> bytes:
        return orjson.dumps(rounded(answer, self._digits))


class PredictRoute:
    """The path that most requests take, before any router: all others go to the application."""

    def __init__(self, app: ASGIApp, predicting: Predicting, path: str) -> None:
        """Answer JSON posted to a path, and pass everything else on."""
        self._app, self._predicting, self._path = app, predicting, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if not self._is_mine(scope):
            await self._app(scope, receive, send)
            return
        try:
            content = await self._predicting.answer(scope, receive)
        # A border, as refusals.guarded is: whatever it was, it is answered and logged there.
        except Exception as error:
            response = answer_error(error, f"POST {self._path}")
            await response(scope, receive, send)
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _is_mine(self, scope: Scope) -> bool:
        return (
            scope["type"] == "http"
            and scope["path"] == self._path
            and scope["method"] == "POST"
            and content_type(scope) == JSON
        )

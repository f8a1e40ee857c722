"""Speak HTTP: read a body, hand it on, answer in JSON; an error says where, what, what to change.

Knows HTTP and a replica; knows nothing of models, tables or Ray. Bodies are parsed by orjson and
rows are checked by column, not by one model object a row; OpenAPI still describes every column of
the contract.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.sections import ServingConfig
from app.serving.bodies import read_body
from app.serving.documentation import (
    CLOSED,
    JSON,
    READING,
    SECURITY,
    SUMMARIES,
    WRITING,
    Answers,
    answers,
    describe_keys,
    with_body,
)
from app.serving.doors import Doors, charge, open_gate
from app.serving.messages import (
    Health,
    LabelsRequest,
    LabelsResponse,
    Metadata,
    PredictRequest,
    PredictResponse,
    Readiness,
    Refused,
    explain,
    labels_schema,
    request_schema,
)
from app.serving.precision import rounded
from app.serving.replica import Replica, ReplicaUnwell

logger = logging.getLogger(__name__)
Message = TypeVar("Message", bound=BaseModel)
Handler = Callable[[Request], Awaitable[Response]]


def build_api(replica: Replica) -> FastAPI:
    """Build the ASGI application of one replica: behind doors, unless its configuration has none.

    Keys and tokens expire on the machine's clock, also where a model's own clock is driven.
    """
    config = replica.predictor.config
    api = FastAPI(
        title=f"Mainspring: {config.name}",
        description="Rows in; probabilities, prediction ids and the version that made them out.",
        version="1",
    )
    api.add_exception_handler(HTTPException, _answer_http_error)
    _add_state_routes(api, replica)
    _add_model_routes(api, replica)
    if config.serving.authentication == "keys":
        gate = open_gate(config, replica.budgets)
        api.add_middleware(Doors, gate=gate, now=replica.wall, answer=_answer_refusal)
    return api


class Desk:
    """Takes requests in: bounds their size and number, and works on them beside the event loop."""

    def __init__(self, serving: ServingConfig) -> None:
        self._max_bytes = int(serving.max_body_mb * 2**20)
        self._seconds = serving.body_seconds
        self._max_ongoing = serving.max_ongoing_requests
        self._ongoing = 0
        # Two: one may wait for the disk or the ledger while the other computes.
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="requests")

    async def serve(
        self, request: Request, kind: type[Message], work: Callable[[Message], dict[str, Any]]
    ) -> Response:
        """Read a message of a kind and answer with the outcome of the work."""
        if self._ongoing >= self._max_ongoing:
            raise Refused(503, "server", f"{self._ongoing} requests under way", "try again later")
        self._ongoing += 1
        try:
            body = await self._read(request)
            loop = asyncio.get_running_loop()
            content = await loop.run_in_executor(
                self._workers, lambda: orjson.dumps(work(parse(body, kind)))
            )
        finally:
            self._ongoing -= 1
        return Response(content, media_type=JSON)

    async def _read(self, request: Request) -> bytes:
        """Read a body of bounded length, within bounded time."""
        kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if kind != JSON:
            raise Refused(415, "content-type", kind[:100], f"send {JSON}")
        headers, receive = request.scope["headers"], request.receive
        return await read_body(headers, receive, self._max_bytes, self._seconds)


def parse(body: bytes, kind: type[Message]) -> Message:
    """Read a message from JSON. Raises Refused with 400."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        got = f"no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise Refused(
            400, "body", got, "send one JSON object; NaN and Infinity are not JSON"
        ) from None
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        change = "compare with the schema at /openapi.json"
        raise Refused(400, "body", explain(error), change) from None


def _guarded(handler: Handler) -> Handler:
    """Turn every error of a handler into an answer: the border where nothing may be a bare 500."""

    @wraps(handler)
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as refusal:
            return _answer_refusal(refusal)
        except ClientDisconnect:
            # Nobody is there to read it.
            return Response(status_code=400)
        except Exception:
            logger.exception("%s %s failed", request.method, request.url.path)
            return _error(
                Refused(500, "server", "an unexpected fault", "see the server's log; try again")
            )

    return guarded


def _answer_refusal(refusal: Refused) -> Response:
    """Write a refusal, and into the log what caused it."""
    if refusal.__cause__ is not None:
        logger.warning("refused: %s", refusal, exc_info=refusal.__cause__)
    return _error(refusal)


def _error(refusal: Refused) -> Response:
    content = refusal.body.model_dump_json(exclude_none=True)
    return Response(content, refusal.status, refusal.headers, media_type=JSON)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    changes = {404: "see /docs for the paths", 405: "see /docs for the methods"}
    refusal = Refused(
        error.status_code,
        "path",
        f"{request.method} {request.url.path[:200]}",
        changes.get(error.status_code, str(error.detail)),
    )
    response = _error(refusal)
    response.headers.update(error.headers or {})
    return response


def _add_state_routes(api: FastAPI, replica: Replica) -> None:
    @api.get(
        "/healthz", summary="Does the process live?", responses=answers(Health, (405, 500, 503))
    )
    @_guarded
    async def healthz(request: Request) -> Response:
        try:
            replica.check_health()
        except ReplicaUnwell as error:
            raise Refused(503, "replica", str(error), "it is being replaced; try again") from error
        return _success(Health())

    @api.get(
        "/readyz", summary="Does a champion answer?", responses=answers(Readiness, (405, 500, 503))
    )
    @_guarded
    async def readyz(request: Request) -> Response:
        return _success(replica.predictor.readiness())


def _add_model_routes(api: FastAPI, replica: Replica) -> None:
    predictor = replica.predictor
    config = predictor.config
    desk = Desk(config.serving)

    @_guarded
    async def metadata(request: Request) -> Response:
        _refuse_other_models(request, config.name)
        return _success(replica.metadata())

    @_guarded
    async def predict(request: Request) -> Response:
        _refuse_other_models(request, config.name)

        def answered(message: PredictRequest) -> dict[str, Any]:
            charge(request, len(message.rows))
            return rounded(predictor.predict(message), config.serving.round_probability_digits)

        return await desk.serve(request, PredictRequest, answered)

    @_guarded
    async def labels(request: Request) -> Response:
        _refuse_other_models(request, config.name)
        return await desk.serve(request, LabelsRequest, predictor.label)

    named = {"name": "model", "in": "path", "required": True}
    path = {"parameters": [{**named, "schema": {"type": "string", "enum": [config.name]}}]}
    reading: tuple[int, ...] = READING
    writing: tuple[int, ...] = WRITING
    if config.serving.authentication == "keys":
        path |= SECURITY
        reading, writing = (*CLOSED, *reading), (*CLOSED, *writing)
        describe_keys(api, with_tokens=config.serving.tokens is not None)
    rows = path | with_body(request_schema(config.contract))
    outcomes = path | with_body(labels_schema())
    _route(api, "GET", metadata, answers(Metadata, reading), path)
    _route(api, "POST", predict, answers(PredictResponse, writing), rows)
    _route(api, "POST", labels, answers(LabelsResponse, writing), outcomes)


def _route(
    api: FastAPI, method: str, handler: Handler, responses: Answers, extra: dict[str, Any]
) -> None:
    """Add a handler under its own name, with all that OpenAPI should say about it."""
    name = handler.__name__
    api.add_api_route(
        f"/v1/{{model}}/{name}",
        handler,
        methods=[method],
        summary=SUMMARIES[name],
        responses=responses,
        openapi_extra=extra,
    )


def _refuse_other_models(request: Request, model: str) -> None:
    asked = str(request.path_params["model"])
    if asked != model:
        raise Refused(404, "path", f"model {asked[:100]}", f"this server has {model}")


def _success(message: BaseModel) -> Response:
    return Response(message.model_dump_json(), media_type=JSON)

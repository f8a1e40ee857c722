"""Speak HTTP: read a body, hand it on, answer in JSON; an error says where, what, what to change.

Knows HTTP and a replica; knows nothing of models, tables or Ray. Bodies are parsed by orjson and
rows are checked by column, not by one model object a row; OpenAPI still describes every column of
the contract.
"""

from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from app.contracts.receipts import Receipt
from app.serving.aside import Aside
from app.serving.bulk import ARROW, predict_stream
from app.serving.desk import Desk
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
    in_path,
    with_binary,
    with_body,
)
from app.serving.doors import Doors, open_gate
from app.serving.entrances import Entrances
from app.serving.explain_messages import ExplainResponse, explain_schema
from app.serving.explaining import Explaining
from app.serving.inference import add_inference_routes
from app.serving.messages import (
    Health,
    LabelsRequest,
    LabelsResponse,
    PredictResponse,
    Readiness,
    Refused,
    labels_schema,
    request_schema,
)
from app.serving.predicting import Predicting, PredictRoute
from app.serving.refusals import Handler, answer_http_error, answer_refusal, guarded
from app.serving.replica import Replica, ReplicaUnwell
from app.serving.state_messages import Metadata


def build_api(replica: Replica) -> ASGIApp:
    """Build the ASGI application of one replica: behind doors, unless its configuration has none.

    Keys and tokens expire on the machine's clock, also where a model's own clock is driven.
    """
    config = replica.predictor.config
    desk = Desk(config.serving, replica.steady)
    routes, path = build_routes(replica, desk), f"/v1/{config.name}/predict"
    within = PredictRoute(routes, Predicting(replica, desk), path)
    if config.serving.authentication == "none":
        return within
    gate, entrances = open_gate(config, replica.budgets), Entrances(model=config.name)
    return Doors(within, gate, replica.wall, answer_refusal, entrances)


def build_routes(replica: Replica, desk: Desk) -> FastAPI:
    """Build the routes with all that OpenAPI says of them."""
    config = replica.predictor.config
    api = FastAPI(
        title=f"Mainspring: {config.name}",
        description="Rows in; probabilities, prediction ids and the version that made them out. "
        "Whatever the path: what is no HTTP/1.1 is 400, a head of more than 64 KiB is 431, and "
        "the connection is closed after either.",
        version="1",
    )
    api.add_exception_handler(HTTPException, answer_http_error)
    _add_state_routes(api, replica)
    _add_model_routes(api, replica, desk)
    add_inference_routes(api, replica, desk)
    return api


def _add_state_routes(api: FastAPI, replica: Replica) -> None:
    @api.get(
        "/healthz", summary="Does the process live?", responses=answers(Health, (405, 500, 503))
    )
    @guarded
    async def healthz(request: Request) -> Response:
        try:
            replica.check_health()
        except ReplicaUnwell as error:
            raise Refused(503, "replica", str(error), "it is being replaced; try again") from error
        return _success(Health())

    @api.get(
        "/readyz", summary="Does a champion answer?", responses=answers(Readiness, (405, 500, 503))
    )
    @guarded
    async def readyz(request: Request) -> Response:
        return _success(replica.predictor.readiness())


def _add_model_routes(api: FastAPI, replica: Replica, desk: Desk) -> None:
    config = replica.predictor.config
    bulk = partial(predict_stream, replica, desk)

    @guarded
    async def metadata(request: Request) -> Response:
        _refuse_other_models(request, config.name)
        return _success(replica.metadata())

    @guarded
    async def predict(request: Request) -> Response:
        # JSON for this model has not come so far: see PredictRoute.
        _refuse_other_models(request, config.name)
        return await bulk(request)

    @guarded
    async def labels(request: Request) -> Response:
        _refuse_other_models(request, config.name)
        content = await desk.serve(
            request.scope, request.receive, LabelsRequest, replica.predictor.label
        )
        return Response(content, media_type=JSON)

    path: dict[str, Any] = {"parameters": [in_path("model", enum=[config.name])]}
    closed = CLOSED if config.serving.authentication == "keys" else ()
    reading, writing = (*closed, *READING), (*closed, *WRITING)
    if closed:
        path |= SECURITY
        describe_keys(api, with_tokens=config.serving.tokens is not None)
    most = config.serving.max_rows_per_request
    rows = path | with_body(request_schema(config.contract, most), ARROW)
    predicted = with_binary(answers(PredictResponse, writing), ARROW)
    _route(api, "GET", metadata, answers(Metadata, reading), path)
    _route(api, "POST", predict, predicted, rows)
    _route(
        api, "POST", labels, answers(LabelsResponse, writing), path | with_body(labels_schema(most))
    )
    _add_receipts(api, replica, path, reading)
    _add_explaining(api, Explaining(replica.predictor, desk), path, writing)


def _add_receipts(
    api: FastAPI, replica: Replica, path: dict[str, Any], statuses: tuple[int, ...]
) -> None:
    name = replica.predictor.config.name
    # They ask the ledger, which may hang.
    aside = Aside("receipts")

    @guarded
    async def predictions(request: Request) -> Response:
        _refuse_other_models(request, name)
        prediction_id = str(request.path_params["prediction_id"])
        return _success(await aside.work(lambda: replica.receipt(prediction_id)))

    asked = {**path, "parameters": [*path["parameters"], in_path("prediction_id")]}
    _route(api, "GET", predictions, answers(Receipt, statuses), asked, "/{prediction_id}")


def _add_explaining(
    api: FastAPI, explaining: Explaining, path: dict[str, Any], statuses: tuple[int, ...]
) -> None:
    config = explaining.config

    @guarded
    async def explain(request: Request) -> Response:
        _refuse_other_models(request, config.name)
        content = await explaining.answer(request.scope, request.receive)
        return Response(content, media_type=JSON)

    asked = path | with_body(explain_schema(config.contract, config.serving.explain_max_rows))
    _route(api, "POST", explain, answers(ExplainResponse, statuses), asked)


def _route(
    api: FastAPI,
    method: str,
    handler: Handler,
    responses: Answers,
    extra: dict[str, Any],
    below: str = "",
) -> None:
    """Add a handler under its own name, with all that OpenAPI should say about it."""
    name = handler.__name__
    api.add_api_route(
        f"/v1/{{model}}/{name}{below}",
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

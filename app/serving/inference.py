"""Answer the paths of the Open Inference Protocol below /v2, and write errors there as it does.

What is answered is what the plain paths answer; only the words differ. The protocol knows no
partial answer: a request with a row that is not acceptable is refused whole with 400. Its refused
rows are quarantined; the others have not come in, and may be sent again. Knows HTTP and a replica;
knows nothing of models, tables or Ray.
"""

from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from app.serving.desk import Desk, refuse_encoded
from app.serving.documentation import (
    CLOSED,
    JSON,
    MEANINGS,
    READING,
    SECURITY,
    WRITING,
    Answers,
    answers,
    in_path,
    with_binary,
    with_body,
)
from app.serving.doors import charge
from app.serving.infer_messages import (
    InferError,
    InferResponse,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
    infer_schema,
    model_metadata,
)
from app.serving.keeping import said_of
from app.serving.messages import Refused
from app.serving.precision import rounded_table
from app.serving.protocol import read_infer, write_infer
from app.serving.refusals import INFERENCE, Handler, guarded
from app.serving.replica import Replica, ReplicaUnwell

BINARY = "application/octet-stream"
HEADER_NAME = "Inference-Header-Content-Length"
HEADER_LENGTH = HEADER_NAME.lower()
DIVIDED: dict[str, Any] = {
    "description": "Bytes of the JSON, where tensors follow it in binary.",
    "schema": {"type": "integer", "minimum": 1},
}
OPEN_ERRORS = (405, 500, 503)
# Nothing is judged row by row: 400 says all that is wrong with a body.
INFER_ERRORS = tuple(status for status in WRITING if status != 422)
SAID = MEANINGS | {
    400: "The body is not what is described here, or a row is not acceptable: nothing is scored.",
    404: "No such model, no such version, or no such path.",
}


class Inference:
    """The handlers of one replica, at the desk of all its requests."""

    def __init__(self, replica: Replica, desk: Desk) -> None:
        self._replica = replica
        self._predictor = replica.predictor
        self._model = replica.predictor.config.name
        self._desk = desk
        self._namer = replica.namer

    async def live(self, request: Request) -> Response:
        """Say whether the process lives."""
        try:
            self._replica.check_health()
        except ReplicaUnwell as error:
            raise Refused(503, "replica", str(error), "it is being replaced; try again") from error
        return _success(Live())

    async def ready(self, request: Request) -> Response:
        """Say whether a champion answers."""
        self._predictor.readiness()
        return _success(Ready())

    async def server(self, request: Request) -> Response:
        """Say who answers."""
        return _success(ServerMetadata())

    async def model_ready(self, request: Request) -> Response:
        """Say whether the model answers, and in the version that is asked for."""
        self._version(request)
        return _success(ModelReady(name=self._model))

    async def model(self, request: Request) -> Response:
        """Describe the model's tensors."""
        version = self._version(request)
        return _success(model_metadata(self._model, version, self._predictor.config.contract))

    async def infer(self, request: Request) -> Response:
        """Score the rows of a request."""
        self._refuse_other_models(request)
        if "version" in request.path_params:
            # Again when it is scored; here no row has been charged for.
            self._version(request)
        refuse_encoded(request.scope)
        self._desk.refuse_if_late()
        body = await self._desk.read(request.scope, request.receive, BINARY)
        with self._desk.turn():
            return await self._desk.work(lambda: self._answer(body, request))

    def _answer(self, body: bytes, request: Request) -> Response:
        config, header_length = self._predictor.config, request.headers.get(HEADER_LENGTH)
        most = config.serving.max_rows_per_request
        asked = read_infer(body, header_length, config.contract, config.name, most)
        charge(request.scope, asked.table.num_rows)
        version = request.path_params.get("version")
        # A second try by the edge names the same rows.
        headers = request.scope["headers"]
        keys = asked.keys or self._namer.keys(asked.table, body, headers)
        table = self._namer.timed(asked.table, headers)
        scored = self._predictor.predict_table(table, keys, whole=True, version=version)
        predictions = rounded_table(scored.predictions, config.serving.round_probability_digits)
        said = said_of(scored.is_kept)
        content, length = write_infer(asked, config.name, scored.roles, predictions, said)
        if length is None:
            return Response(content, media_type=JSON)
        return Response(content, headers={HEADER_LENGTH: str(length)}, media_type=BINARY)

    def _version(self, request: Request) -> str:
        """Give the version that answers; refuse to speak for another one, or another model."""
        self._refuse_other_models(request)
        version = self._predictor.readiness().version
        asked = request.path_params.get("version", version)
        if asked != version:
            got, change = f"version {asked[:80]}", "ask for the champion, or for no version"
            raise Refused(404, "version", got, change)
        return version

    def _refuse_other_models(self, request: Request) -> None:
        asked = str(request.path_params["model"])
        if asked != self._model:
            raise Refused(404, "path", f"model {asked[:100]}", f"this server has {self._model}")


def add_inference_routes(api: FastAPI, replica: Replica, desk: Desk) -> None:
    """Add the protocol's paths."""
    config, handlers = replica.predictor.config, Inference(replica, desk)
    closed = config.serving.authentication == "keys"
    security: dict[str, Any] = SECURITY if closed else {}
    barred: tuple[int, ...] = CLOSED if closed else ()

    def add(path: str, handler: Handler, responses: Answers, extra: dict[str, Any]) -> None:
        api.add_api_route(
            f"{INFERENCE}{path}",
            guarded(handler),
            methods=["POST" if path.endswith("/infer") else "GET"],
            name=f"v2_{handler.__name__}{'_of_version' if 'version' in path else ''}",
            summary=str(handler.__doc__),
            responses=responses,
            openapi_extra=extra,
        )

    add("/health/live", handlers.live, _said(Live, OPEN_ERRORS), {})
    add("/health/ready", handlers.ready, _said(Ready, OPEN_ERRORS), {})
    add("", handlers.server, _said(ServerMetadata, (*barred, *OPEN_ERRORS)), security)
    model, version = in_path("model", enum=[config.name]), in_path("version")
    reading, inferring = (*barred, *READING), (*barred, *INFER_ERRORS)
    most_rows = config.serving.max_rows_per_request
    body = with_body(infer_schema(config.contract, config.name, most_rows), BINARY)
    for place, parameters in (("", [model]), ("/versions/{version}", [model, version])):
        path, extra = f"/models/{{model}}{place}", {"parameters": parameters, **security}
        add(path, handlers.model, _said(ModelMetadata, reading), extra)
        add(f"{path}/ready", handlers.model_ready, _said(ModelReady, reading), extra)
        inferred = with_binary(_said(InferResponse, inferring), BINARY)
        inferred[200]["headers"] = {HEADER_NAME: DIVIDED}
        sent = {"name": HEADER_NAME, "in": "header", "required": False, **DIVIDED}
        extra = extra | body | {"parameters": [*parameters, sent]}
        add(f"{path}/infer", handlers.infer, inferred, extra)


def _said(success: type[BaseModel], errors: tuple[int, ...]) -> Answers:
    return answers(success, errors, InferError, SAID)


def _success(message: BaseModel) -> Response:
    return Response(message.model_dump_json(), media_type=JSON)

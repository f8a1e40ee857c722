"""Say in OpenAPI what each path answers, with which status, and how a key is sent.

Knows words and schemas; knows nothing of requests.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from app.serving.messages import ErrorResponse

JSON = "application/json"
Answers = dict[int | str, dict[str, Any]]


def _header(name: str, kind: str, description: str) -> dict[str, Any]:
    return {name: {"required": True, "description": description, "schema": {"type": kind}}}


MEANINGS = {
    400: "The body is not what is described here.",
    401: "No key, or one that opens nothing; WWW-Authenticate names the scheme.",
    403: "The key has not the role that this needs.",
    404: "No such model, version or path.",
    405: "The path does not take this method.",
    408: "The body did not arrive in time.",
    413: "The body or the number of rows is too large.",
    415: "The body is of a content type that is not described here.",
    422: "No row is acceptable; `rejected` says why, row by row.",
    429: "More requests a second, or rows a day, than this key may ask; come again after the "
    "seconds in Retry-After.",
    500: "A fault of the server; nothing was logged as answered.",
    503: "Not ready, or too busy; try again after the seconds in Retry-After.",
}
RETRY = _header("Retry-After", "integer", "Seconds to wait.")
# What comes with a status whoever refuses; what a proxy may take out is not promised.
HEADERS = {
    401: _header("WWW-Authenticate", "string", "The scheme: Bearer."),
    405: _header("Allow", "string", "The methods that the path takes."),
    429: RETRY,
    503: RETRY,
}
SUMMARIES = {
    "metadata": "What is served, and with what?",
    "predict": "Score rows.",
    "labels": "Report outcomes.",
    "predictions": "What was a prediction made with?",
    "explain": "Say what each column adds to the predictions of rows; nothing is logged.",
}
READING = (404, 405, 500, 503)
WRITING = (400, 404, 405, 408, 413, 415, 422, 500, 503)
CLOSED = (401, 403, 429)
SECURITY: dict[str, Any] = {"security": [{"bearer": []}, {"key": []}]}
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "msk_…"},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


def answers(
    success: type[BaseModel],
    errors: tuple[int, ...],
    error: type[BaseModel] = ErrorResponse,
    meanings: Mapping[int, str] = MEANINGS,
) -> Answers:
    """Document every status."""
    documented: Answers = {
        status: {"model": error, "description": meanings[status]} for status in errors
    }
    for status, headers in HEADERS.items():
        if status in documented:
            documented[status]["headers"] = headers
    return {200: {"model": success, "description": "Success."}, **documented}


def describe_keys(api: FastAPI, with_tokens: bool = False) -> None:
    """Say in OpenAPI how a key, and a token where they are taken, is sent."""
    describe = api.openapi
    form = {"bearerFormat": "msk_… or JWT"} if with_tokens else {}
    schemes = {**SCHEMES, "bearer": {**SCHEMES["bearer"], **form}}

    def described() -> dict[str, Any]:
        schema = describe()
        schema.setdefault("components", {})["securitySchemes"] = schemes
        return schema

    api.openapi = described  # type: ignore[method-assign]  # FastAPI's own way to add to it.


def in_path(name: str, **schema: Any) -> dict[str, Any]:
    """Describe a part of a path, a text."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", **schema}}


def with_body(schema: dict[str, Any], *binary: str) -> dict[str, Any]:
    """Describe a body that the handler reads by itself, in JSON or of a binary content type."""
    content = {JSON: {"schema": schema}, **_binary_content(binary)}
    return {"requestBody": {"required": True, "content": content}}


def with_binary(documented: Answers, *binary: str) -> Answers:
    """Say that success may also be answered in binary content types."""
    return documented | {200: {**documented[200], "content": _binary_content(binary)}}


def _binary_content(kinds: Iterable[str]) -> dict[str, Any]:
    return {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}

"""The least that HTTP takes: bare ASGI and orjson around the same model, nothing checked."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from benchmarks.harness.contenders import answer_commands
from benchmarks.serving.local import serve_here
from benchmarks.serving.plain import Model

Message = dict[str, Any]
HEADERS = [(b"content-type", b"application/json")]


class Bare:
    """One route, one row."""

    def __init__(self, model: Model) -> None:
        """Take what answers."""
        self._model = model

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        assert scope["type"] == "http"
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        row = orjson.loads(body)
        answer = {"flight_id": row["flight_id"], "probability": self._model.predict(row)}
        content = orjson.dumps(answer)
        length = (b"content-length", str(len(content)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, length]})
        await send({"type": "http.response.body", "body": content})


def act(bundle: str) -> dict[str, Any]:
    """Serve a bundle from this process."""
    return serve_here(Bare(Model(Path(bundle))))


if __name__ == "__main__":
    answer_commands(act)

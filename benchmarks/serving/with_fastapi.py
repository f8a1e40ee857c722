"""The anchor: FastAPI and pydantic under one uvicorn worker, as a team would write it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from fastapi import FastAPI, Request, Response

from benchmarks.harness.contenders import answer_commands
from benchmarks.serving.bodies import ARROW, stream_of
from benchmarks.serving.local import serve_here
from benchmarks.serving.plain import Answer, Answers, Model, Row


def application(model: Model) -> FastAPI:
    """Build the application: one row, or many."""
    api = FastAPI()

    # Not handed to a thread: a forward pass takes less than the way there and back.
    @api.post("/predict")
    async def predict(row: Row) -> Answer:
        return Answer(flight_id=row.flight_id, probability=model.predict(vars(row)))

    @api.post("/predict_many")
    async def predict_many(rows: list[Row]) -> Answers:
        probabilities = model.predict_many([vars(row) for row in rows])
        return Answers(
            predictions=[
                Answer(flight_id=row.flight_id, probability=probability)
                for row, probability in zip(rows, probabilities, strict=True)
            ]
        )

    @api.post("/predict_arrow")
    async def predict_arrow(request: Request) -> Response:
        table = pa.ipc.open_stream(await request.body()).read_all()
        answer = {"flight_id": table["flight_id"], "probability": model.predict_table(table)}
        return Response(stream_of(pa.table(answer)), media_type=ARROW)

    return api


def act(bundle: str) -> dict[str, Any]:
    """Serve a bundle from this process."""
    return serve_here(application(Model(Path(bundle))))


if __name__ == "__main__":
    answer_commands(act)

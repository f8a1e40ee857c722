"""Answer many rows at once: an Arrow IPC stream in, one out.

The same rows as JSON get the same predictions; what is not accepted is told in the answer's schema.
Knows a predictor and a response; knows nothing of the content of either.
"""

import uuid

from fastapi import Request, Response

from app.serving.arrowstream import read_stream, write_stream
from app.serving.desk import Desk, refuse_encoded
from app.serving.doors import charge
from app.serving.precision import rounded_table
from app.serving.predictor import Predictor
from app.serving.retries import Namer

ARROW = "application/vnd.apache.arrow.stream"


async def predict_stream(predictor: Predictor, desk: Desk, request: Request) -> Response:
    """Score the rows of a stream that are acceptable. Raises Refused as Predictor.predict does.

    Raises Refused with 400 for a body that is no stream of the contract's columns.
    """
    config, serving = predictor.config, predictor.config.serving

    def answer() -> Response:
        most_rows = serving.max_rows_per_request
        bulk = read_stream(body, config.contract, most_rows, desk.max_bytes)
        charge(request.scope, bulk.table.num_rows)
        # A second try by the edge names the same rows.
        keys = bulk.keys or Namer(config.contract).keys(bulk.table, body, request.scope["headers"])
        scored = predictor.predict_table(bulk.table, keys)
        predictions = rounded_table(scored.predictions, serving.round_probability_digits)
        scored = scored._replace(predictions=predictions)
        request_id = bulk.request_id or uuid.uuid4().hex
        return Response(write_stream(config.name, request_id, scored), media_type=ARROW)

    refuse_encoded(request.scope)
    body = await desk.read(request.scope, request.receive, ARROW)
    with desk.place():
        return await desk.work(answer)

"""Answer many rows at once: an Arrow IPC stream in, one out.

The same rows as JSON get the same predictions; what is not accepted is told in the answer's schema.
Knows a replica and a response; knows nothing of the content of either.
"""

from fastapi import Request, Response

from app.serving.arrowstream import read_stream, write_stream
from app.serving.desk import Desk, refuse_encoded
from app.serving.doors import charge
from app.serving.precision import rounded_table
from app.serving.replica import Replica
from app.serving.retries import new_request_id

ARROW = "application/vnd.apache.arrow.stream"


async def predict_stream(replica: Replica, desk: Desk, request: Request) -> Response:
    """Score the rows of a stream that are acceptable. Raises Refused as Predictor.predict does.

    Raises Refused with 400 for a body that is no stream of the contract's columns.
    """
    predictor = replica.predictor
    config, serving = predictor.config, predictor.config.serving

    def answer() -> Response:
        most_rows = serving.max_rows_per_request
        bulk = read_stream(body, config.contract, most_rows, desk.max_bytes)
        charge(request.scope, bulk.table.num_rows)
        # A second try by the edge names the same rows.
        headers = request.scope["headers"]
        keys = bulk.keys or replica.namer.keys(bulk.table, body, headers)
        scored = predictor.predict_table(replica.namer.timed(bulk.table, headers), keys)
        predictions = rounded_table(scored.predictions, serving.round_probability_digits)
        scored = scored._replace(predictions=predictions)
        request_id = bulk.request_id or new_request_id()
        return Response(write_stream(config.name, request_id, scored), media_type=ARROW)

    refuse_encoded(request.scope)
    desk.refuse_if_late()
    body = await desk.read(request.scope, request.receive, ARROW)
    with desk.turn():
        return await (desk.compute if predictor.is_prompt else desk.work)(answer)

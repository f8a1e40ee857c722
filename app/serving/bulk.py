"""Answer many rows at once: an Arrow IPC stream in, one out.

The same rows as JSON get the same predictions; what is not accepted is told in the answer's schema.
Knows a predictor and a response; knows nothing of the content of either.
"""

import uuid

from fastapi import Response

from app.serving.arrowstream import read_stream, write_stream
from app.serving.predictor import Predictor

ARROW = "application/vnd.apache.arrow.stream"


def predict_stream(predictor: Predictor, body: bytes) -> Response:
    """Score the rows of a stream that are acceptable. Raises Refused as Predictor.predict does.

    Raises Refused with 400 for a body that is no stream of the contract's columns.
    """
    config = predictor.config
    serving = config.serving
    max_bytes = int(serving.max_body_mb * 2**20)
    bulk = read_stream(body, config.contract, serving.max_rows_per_request, max_bytes)
    scored = predictor.predict_table(bulk.table, bulk.keys)
    request_id = bulk.request_id or uuid.uuid4().hex
    return Response(write_stream(config.name, request_id, scored), media_type=ARROW)

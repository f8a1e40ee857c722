"""Round what an answer says, so that it takes more questions to copy a model by asking it.

Knows answers; knows nothing of how they come about. What is logged keeps every digit: monitoring
and replays compare it.
"""

from typing import Any

import pyarrow as pa


def rounded(answer: dict[str, Any], digits: int | None) -> dict[str, Any]:
    """Round the probabilities of a PredictResponse in place and return it; None leaves them.

    >>> rounded({"predictions": [{"row_id": "a", "probability": 0.12345}]}, 2)["predictions"]
    [{'row_id': 'a', 'probability': 0.12}]
    """
    if digits is not None:
        for prediction in answer["predictions"]:
            prediction["probability"] = round(prediction["probability"], digits)
    return answer


def rounded_table(predictions: pa.Table, digits: int | None) -> pa.Table:
    """Round the probabilities of a table likewise, to the same bits, in a copy."""
    if digits is None:
        return predictions
    place = predictions.schema.get_field_index("probability")
    # Python's own rounding, as above: Arrow's differs in the last bit.
    values = [round(value, digits) for value in predictions["probability"].to_pylist()]
    return predictions.set_column(place, "probability", pa.array(values, pa.float64()))

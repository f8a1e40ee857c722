"""Round what an answer says, so that it takes more questions to copy a model by asking it.

Knows answers; knows nothing of how they come about. What is logged keeps every digit: monitoring
and replays compare it.
"""

from typing import Any


def rounded(answer: dict[str, Any], digits: int | None) -> dict[str, Any]:
    """Round the probabilities of a PredictResponse in place and return it; None leaves them.

    >>> rounded({"predictions": [{"row_id": "a", "probability": 0.12345}]}, 2)["predictions"]
    [{'row_id': 'a', 'probability': 0.12}]
    """
    if digits is not None:
        for prediction in answer["predictions"]:
            prediction["probability"] = round(prediction["probability"], digits)
    return answer

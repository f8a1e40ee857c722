"""Ten times overload behind the shipped edge: everybody gets an answer or is told to come again.

How long answers take is for a quiet machine: `python -m benchmarks.faults overload`.
"""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.faults.overload import Dials, measure
from tests.edge_world import needs_nginx

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.edge, needs_nginx]


@pytest.mark.timeout(900)
def test_beyond_capacity_only_200_429_and_503_are_said_and_nothing_is_tried_again(
    tmp_path: Path,
) -> None:
    record = measure(tmp_path, Dials(rounds=1, seconds=6.0))
    sys.stdout.write(json.dumps(record) + "\n")

    assert set(record["statuses"]) == {"200", "429", "503"}
    assert record["statuses"]["503"] > record["statuses"]["200"]
    # Turned away by the edge, by how long it would take at a replica, and by a caller's own rate.
    told = {words for words in record["refusals"] if not words.startswith("429")}
    assert told <= {
        "503 too many requests under way",
        "503 requests under way",
        "503 ms of work before this request",
    }
    assert "503 too many requests under way" in told
    # HAProxy hands on what replicas say, and would say 500 for itself.
    assert set(record["statuses_haproxy"]) == {"200", "503"}
    assert "503 ms of work before this request" in record["refusals_haproxy"]
    assert set(record["refusals_haproxy"]) <= told | {"503 ms of work before this request"}
    assert record["most_tries"] == 1

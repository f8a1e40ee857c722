"""Load that grows three hundred times in a minute: nobody is refused, replicas come and go.

How long answers take is for a quiet machine: `python -m benchmarks.faults ramp`.
"""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.faults.ramp import AFTER, FIRST, LAST, MIN_REPLICAS, Dials, measure
from tests.edge_world import needs_nginx

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.edge, needs_nginx]


@pytest.mark.timeout(900)
def test_every_request_of_a_ramp_is_answered_and_replicas_grow_and_shrink(tmp_path: Path) -> None:
    dials = Dials()
    record = measure(tmp_path, dials)
    sys.stdout.write(json.dumps(record) + "\n")

    in_all = (FIRST + LAST) / 2 * dials.ramp_seconds + LAST * dials.hold_seconds
    assert record["statuses"] == {"200": round(in_all)}
    assert record["statuses_after"] == {"200": round(AFTER * dials.shrink_seconds)}
    assert record["replicas"][0][1] == MIN_REPLICAS
    assert record["most_replicas"] > MIN_REPLICAS
    assert record["replicas_at_the_end"] == MIN_REPLICAS

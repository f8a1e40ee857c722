"""A training job on the cores and the cluster that serve: all requests are answered.

How long answers take is for a quiet machine: `python -m benchmarks.faults training`.
"""

import json
import sys
from pathlib import Path

import pytest

from app.priority import NICE
from benchmarks.faults.beside import Dials, measure
from tests.edge_world import needs_nginx

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.edge, needs_nginx]


@pytest.mark.timeout(900)
def test_answers_go_on_beside_training_whose_processes_give_way_to_replicas(
    tmp_path: Path,
) -> None:
    dials = Dials(rounds=2, seconds=8.0)
    record = measure(tmp_path, dials)
    sys.stdout.write(json.dumps(record) + "\n")

    num_loads = 2 + 2 * dials.rounds
    assert record["statuses"] == {"200": round(num_loads * dials.rate * dials.seconds)}
    assert record["niceness_of_replicas"] == [0]
    assert record["niceness_of_training"] == [NICE]
    # It goes on, too.
    assert record["cores_of_training"] > 0

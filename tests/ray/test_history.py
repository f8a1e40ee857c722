"""Window features of history on a cluster are those of one process, bit for bit."""

import numpy as np
import pytest

from app.data.facts import asked_at, event_facts, label_facts
from app.data.history import windows_on_cluster
from app.data.windows import window_values
from tests.windows_world import bits, make_contract, make_events, make_labels, make_stream

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_the_cluster_gives_what_one_process_gives() -> None:
    contract = make_contract()
    events, labels = make_stream(11, 1500)
    rows = make_events(events, contract)
    facts = event_facts(rows, contract)
    revisions = label_facts(make_labels(labels), contract.arrivals)
    arguments = (contract, facts, revisions, rows, asked_at(rows))
    here = window_values(*arguments)
    there = windows_on_cluster(*arguments, partition_rows=400)
    assert there.column_names == here.column_names
    assert bits(there) == bits(here)
    assert np.array([column.null_count for column in here.columns]).max() < 1500

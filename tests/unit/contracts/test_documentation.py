"""What docs/contract.md shows is what the code takes."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from app.contracts.expressions import FUNCTIONS
from app.contracts.rows import Contract
from app.contracts.syntax import MAX_CHARACTERS
from app.contracts.times import micros_of
from app.contracts.windows import SUBJECTS, Arrivals
from app.data.facts import event_facts, label_facts
from app.data.windows import window_values
from app.sections import IntakeConfig

NOON = datetime(2024, 4, 1, 12, tzinfo=UTC)
TEXT = (Path(__file__).resolve().parents[3] / "docs" / "contract.md").read_text()


def the_example() -> dict[str, Any]:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    example: dict[str, Any] = yaml.safe_load(block)
    return example


def test_the_example_loads() -> None:
    example = the_example()
    contract = Contract.model_validate(example["contract"])
    assert len(contract.conditions) == len(example["contract"]["rules"]) == 5
    assert contract.forbidden_names == {"passport"}
    assert {window.aggregate for window in contract.windows} == {*SUBJECTS} - {"sum"}
    assert [window.entity for window in contract.windows] == [*["sender"] * 4, "depot"]
    assert IntakeConfig.model_validate(example["intake"]).volume == "stop"


def test_every_function_and_every_dial_is_described() -> None:
    assert not [name for name in (*FUNCTIONS, *IntakeConfig.model_fields) if f"`{name}" not in TEXT
                and name != "num_examples"]  # fmt: skip
    assert str(MAX_CHARACTERS) in TEXT


def test_every_aggregate_and_every_dial_of_windows_is_described() -> None:
    dials = [f"arrivals.{name}" for name in Arrivals.model_fields]
    assert not [name for name in (*SUBJECTS, *dials) if f"`{name}" not in TEXT]


def ago(*hours: float) -> pa.Array:
    return pa.array([NOON - timedelta(hours=each) for each in hours], pa.timestamp("us", tz="UTC"))


def test_the_windows_of_the_example_are_what_the_page_says() -> None:
    contract = Contract.model_validate(the_example()["contract"])
    asked = ago(800, 200, 3, 0, -1)
    events = pa.table(
        {
            "parcel": ["P0", "P1", "P2", "P3", "P4"],
            "sender": ["ada", "ada", "ada", "ada", "ada"],
            "depot": ["north", "south", "south", "south", "south"],
            "weight": [9.0, 7.0, 2.5, 1.0, 1.0],
            "prediction_time": asked,
            "ingested_at": asked,
            "source": ["ingest:x"] * 5,
        }
    )
    # P1 was lost, as was known two hours ago; that it was found after all becomes known later.
    outcomes = pa.table(
        {
            "row_id": ["P1", "P1", "P0"],
            "label": pa.array([1, 0, 0], pa.int8()),
            "void": [False] * 3,
            "known_at": ago(2, -1, 700),
            "received_at": ago(2, -1, 700),
            "source": ["ingest:x"] * 3,
        }
    )
    rows = pa.table({"sender": ["ada", "bob", None], "depot": ["south", "north", "west"]})
    values = window_values(
        contract,
        event_facts(events, contract),
        label_facts(outcomes, contract.arrivals),
        rows,
        np.full(3, micros_of(NOON)),
    )
    # Neither the row asked just now nor that of an hour later is in; P0 is over 30 days old.
    assert values.select(
        ["sender_parcels_30d", "sender_weight_7d", "sender_depots_30d"]
    ).to_pydict() == {
        "sender_parcels_30d": [2.0, 0.0, None],
        "sender_weight_7d": [2.5, None, None],
        "sender_depots_30d": [1.0, 0.0, None],
    }
    assert values["hours_since_sender"].to_pylist() == [3.0, None, None]
    assert values["depot_lost_share_90d"].to_pylist() == [1.0, 0.0, None]

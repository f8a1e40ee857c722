"""What tests of ingests on a cluster share."""

from collections.abc import Callable
from typing import Any

import pytest

from app.config import Config
from app.contracts.rows import Column, Contract
from app.sections import SourceConfig

Open = Callable[..., Config]


@pytest.fixture
def shop(flights: Config) -> Open:
    """A function that makes a model of parcels with a source."""
    contract = Contract(
        id="parcel",
        event_time="promised",
        label="lost",
        columns=(
            Column(name="parcel", kind="identifier", feature=False),
            Column(name="promised", kind="time", feature=False),
            Column(name="weight", kind="number", minimum=0, maximum=40),
        ),
    )

    def make(**source: Any) -> Config:
        changed = {"contract": contract, "source": SourceConfig(**source), "clock": "wall"}
        return flights.model_copy(update=changed)

    return make

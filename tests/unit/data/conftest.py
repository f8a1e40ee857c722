"""A small model of parcels, rows that fit it, and tables of its own."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from app.contracts.rows import Column, Contract
from app.data.sealing import Sealing
from app.data.stagedfiles import StagedFiles
from app.data.tables import Tables
from app.security.keyring import FileKeyring


@pytest.fixture(scope="session")
def parcels() -> Contract:
    return Contract(
        id="parcel",
        event_time="promised",
        lead_minutes=30,
        entity="sender",
        label="lost",
        columns=(
            Column(name="parcel", kind="identifier", feature=False),
            Column(name="promised", kind="time", feature=False),
            Column(name="sender", kind="identifier", privacy="personal", nullable=True),
            Column(name="depot", kind="category", categories=("north", "south")),
            Column(name="weight", kind="number", minimum=0, maximum=40),
            Column(name="rain", kind="number", nullable=True, minimum=0),
        ),
    )


@pytest.fixture
def parcel() -> Callable[..., dict[str, object]]:
    """A function that makes one good row, with changes."""

    def make(number: int = 0, **changes: object) -> dict[str, object]:
        row: dict[str, object] = {
            "parcel": f"P{number}",
            "promised": f"2024-03-{1 + number % 28:02d}T10:00:00Z",
            "sender": f"sender {number % 3}",
            "depot": "north",
            "weight": 2.5,
            "rain": None,
        }
        return {**row, **changes}

    return make


@pytest.fixture
def parcel_table(parcels: Contract) -> Callable[[list[dict[str, object]]], pa.Table]:
    """A function that puts rows into a table, each column typed as Arrow would."""

    def make(rows: list[dict[str, object]]) -> pa.Table:
        return pa.table({name: [row[name] for row in rows] for name in parcels.schema.names})

    return make


@pytest.fixture
def tables(tmp_path: Path, parcels: Contract) -> Tables:
    return Tables(tmp_path / "tables", parcels)


@pytest.fixture
def files(tmp_path: Path) -> StagedFiles:
    """Staged files as an ingest has them: sealed."""
    folder = tmp_path / "staged"
    folder.mkdir()
    return StagedFiles(folder, Sealing(FileKeyring(tmp_path / "keyring.json"), at_rest=True))

"""A feed that falls silent is noticed when its newest row grows too old, and told once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import SecretBytes

from app.contracts.rows import Contract
from app.data.freshness import is_stale, newest_asked, turn
from app.data.sealing import Sealing
from app.data.tables import Tables
from app.data.validation import validate
from app.sections import IntakeConfig
from app.security.keyring import FileKeyring
from app.security.privacy import Pseudonymiser

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
SECRET = Pseudonymiser(SecretBytes(b"k" * 32))
NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)
POLICY = IntakeConfig(max_age_hours=24)
MICROS = 10**6


def micros(time: datetime) -> int:
    return round(time.timestamp() * MICROS)


def test_a_row_is_stale_from_the_moment_it_is_too_old() -> None:
    newest = micros(NOON)
    assert not is_stale(newest, NOON + timedelta(hours=24), POLICY)
    assert is_stale(newest, NOON + timedelta(hours=24, microseconds=1), POLICY)
    assert is_stale(None, NOON, POLICY)
    assert not is_stale(None, NOON, IntakeConfig())


def test_each_turn_is_told_once() -> None:
    looks = [False, True, True, False, False, True]
    told, before = [], None
    for stale in looks:
        told.append(turn(before, stale))
        before = stale
    assert told == [None, "stale", None, "fresh", None, "stale"]


@pytest.fixture(params=["plain", "sealed", "private time"])
def tables(request: pytest.FixtureRequest, tmp_path: Path, parcels: Contract) -> Tables:
    contract = parcels
    if request.param == "private time":
        columns = [
            {**column, "privacy": "quasi"} if column["name"] == "promised" else column
            for column in parcels.model_dump()["columns"]
        ]
        contract = Contract.model_validate({**parcels.model_dump(), "columns": columns})
    sealed = request.param != "plain"
    ring = FileKeyring(tmp_path / "ring.json") if sealed else None
    return Tables(tmp_path / "tables", contract, Sealing(ring, at_rest=sealed))


def test_the_newest_time_asked_is_that_of_all_files(
    tables: Tables, parcel: Make, parcel_table: MakeTable
) -> None:
    assert newest_asked(tables) is None
    for numbers in ([3, 6], [5], [1]):
        rows = parcel_table([parcel(number) for number in numbers])
        accepted = validate(rows, tables.contract, pseudonymiser=SECRET).accepted
        tables.append("events", tables.complete("events", accepted, NOON, "test"))
    # Asked half an hour before.
    assert newest_asked(tables) == micros(datetime(2024, 3, 7, 9, 30, tzinfo=UTC))

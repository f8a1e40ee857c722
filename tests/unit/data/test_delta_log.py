"""What is read from a table's log is what the library reads from it."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from app.data.delta_log import checkpoints, drop_derived, transactions

NUM_COMMITS, NUM_APPLICATIONS = 205, 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of so many commits that it has checkpoints, and commits after the last one."""
    folder = tmp_path_factory.mktemp("table")
    for number in range(NUM_COMMITS):
        noted = Transaction(f"app {number % NUM_APPLICATIONS}", number)
        properties = CommitProperties(app_transactions=[noted])
        write_deltalake(folder, pa.table({"a": [1]}), mode="append", commit_properties=properties)
    return folder


def test_transactions_are_those_of_the_library(folder: Path) -> None:
    table = DeltaTable(folder)
    names = [f"app {number}" for number in range(NUM_APPLICATIONS)]
    assert len(checkpoints(folder)) == 2
    assert transactions(folder) == {name: table.transaction_version(name) for name in names}


def test_transactions_need_no_checkpoint(folder: Path) -> None:
    before = transactions(folder)
    drop_derived(folder)
    assert checkpoints(folder) == []
    assert transactions(folder) == before

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from app.ledger.database import open_ledger
from app.ledger.journal import append, entries, verify

NOON = datetime(2013, 4, 1, 12, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    for number in range(4):
        with opened.transaction() as connection:
            append(connection, "m", "counted", {"number": number}, NOON)
    return opened


def test_entries_come_back_in_order(ledger):
    assert [entry.payload["number"] for entry in entries(ledger, "m")] == [0, 1, 2, 3]
    assert [entry.sequence for entry in entries(ledger, "m", after=2)] == [3, 4]
    assert verify(ledger) == []


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE journal SET payload = '{}' WHERE sequence = 2", "entry 2 (counted) was altered"),
        ("UPDATE journal SET at = '2013-04-01T13:00:00+00:00' WHERE sequence = 3", "entry 3"),
        ("DELETE FROM journal WHERE sequence = 2", "entry 2 is missing before entry 3"),
        ("UPDATE journal SET model = 'other' WHERE sequence = 1", "entry 1"),
    ],
)  # fmt: skip
def test_an_altered_or_missing_entry_is_named(ledger, statement, problem):
    with ledger.transaction() as connection:
        connection.execute(text(statement))
    assert any(problem in found for found in verify(ledger))


def test_an_entry_rewritten_with_its_own_digest_breaks_the_chain_after_it(ledger):
    with ledger.transaction() as connection:
        connection.execute(text("DELETE FROM journal WHERE sequence >= 3"))
        append(connection, "m", "forged", {}, NOON)
    genuine = entries(ledger, "m")[-1]
    with ledger.transaction() as connection:
        append(connection, "m", "counted", {}, NOON)
        connection.execute(
            text("UPDATE journal SET digest = :digest WHERE sequence = 3"), {"digest": "f" * 64}
        )
    assert genuine.digest != "f" * 64
    assert "journal: entry 4 does not follow the one before it" in verify(ledger)

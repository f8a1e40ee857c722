"""The ledger's schema as numbered steps, each applied once and never edited.

Knows plain SQL that SQLite and PostgreSQL both take; knows nothing of what the rows mean.
"""

import hashlib
from typing import NamedTuple

from sqlalchemy import Connection, text


class LedgerMismatch(ValueError):
    """The ledger was written by another version of this software."""


class Step(NamedTuple):
    """One numbered change of the schema."""

    number: int
    name: str
    statements: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Digest of the statements: an edited step is noticed."""
        return hashlib.sha256("\n".join(self.statements).encode()).hexdigest()


# Times are ISO 8601 text in UTC; records are JSON text; sequences are given by the writer, who is
# alone.
STEPS: tuple[Step, ...] = (
    Step(
        1,
        "first tables",
        (
            """CREATE TABLE journal (
                sequence BIGINT PRIMARY KEY, model TEXT NOT NULL, kind TEXT NOT NULL,
                at TEXT NOT NULL, payload TEXT NOT NULL, previous TEXT NOT NULL,
                digest TEXT NOT NULL)""",
            """CREATE TABLE clock (
                name TEXT PRIMARY KEY, now TEXT NOT NULL, watermark TEXT NOT NULL)""",
            """CREATE TABLE epochs (
                name TEXT PRIMARY KEY, epoch BIGINT NOT NULL)""",
            """CREATE TABLE decisions (
                key TEXT PRIMARY KEY, model TEXT NOT NULL, sequence BIGINT NOT NULL,
                at TEXT NOT NULL, action TEXT NOT NULL, epoch BIGINT NOT NULL, outcome TEXT,
                UNIQUE (model, sequence))""",
            """CREATE TABLE loop_states (
                model TEXT PRIMARY KEY, state TEXT NOT NULL)""",
            """CREATE TABLE evidence (
                model TEXT NOT NULL, version TEXT NOT NULL, ended TEXT NOT NULL,
                record TEXT NOT NULL, PRIMARY KEY (model, version, ended))""",
            """CREATE TABLE folds (
                model TEXT PRIMARY KEY, state BYTEA NOT NULL, offsets TEXT NOT NULL,
                watermark TEXT NOT NULL)""",
            """CREATE TABLE progress (
                model TEXT NOT NULL, part TEXT NOT NULL, watermark TEXT NOT NULL,
                detail TEXT NOT NULL, updated_at TEXT NOT NULL, PRIMARY KEY (model, part))""",
            """CREATE TABLE versions (
                model TEXT NOT NULL, run TEXT NOT NULL, digest TEXT NOT NULL,
                created_at TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (model, run))""",
            "CREATE INDEX versions_by_digest ON versions (digest)",
            """CREATE TABLE roles (
                model TEXT NOT NULL, generation BIGINT NOT NULL, champion TEXT, previous TEXT,
                challenger TEXT, decision TEXT NOT NULL, at TEXT NOT NULL,
                PRIMARY KEY (model, generation))""",
            """CREATE TABLE replicas (
                model TEXT NOT NULL, replica TEXT NOT NULL, generation BIGINT NOT NULL,
                resident TEXT NOT NULL, problems TEXT NOT NULL, seen DOUBLE PRECISION NOT NULL,
                PRIMARY KEY (model, replica))""",
        ),
    ),
    Step(
        2,
        "erasure",
        (
            """CREATE TABLE erasures (
                receipt TEXT PRIMARY KEY, model TEXT NOT NULL, sequence BIGINT NOT NULL,
                began_at TEXT NOT NULL, subjects TEXT NOT NULL, record TEXT,
                UNIQUE (model, sequence))""",
            """CREATE TABLE erasure_steps (
                receipt TEXT NOT NULL, step TEXT NOT NULL, model TEXT NOT NULL,
                at TEXT NOT NULL, outcome TEXT NOT NULL, PRIMARY KEY (receipt, step))""",
            """CREATE TABLE tombstones (
                model TEXT NOT NULL, kind TEXT NOT NULL, hash TEXT NOT NULL,
                receipt TEXT NOT NULL, level BIGINT NOT NULL,
                PRIMARY KEY (receipt, kind, hash))""",
            "CREATE INDEX tombstones_by_level ON tombstones (model, level)",
            """CREATE TABLE reductions (
                receipt TEXT NOT NULL, snapshot TEXT NOT NULL, model TEXT NOT NULL,
                record TEXT NOT NULL, PRIMARY KEY (receipt, snapshot))""",
            """CREATE TABLE erased_versions (
                receipt TEXT NOT NULL, digest TEXT NOT NULL, model TEXT NOT NULL,
                PRIMARY KEY (receipt, digest))""",
        ),
    ),
    Step(
        3,
        "usage",
        (
            """CREATE TABLE usage (
                model TEXT NOT NULL, day TEXT NOT NULL, caller TEXT NOT NULL,
                replica TEXT NOT NULL, num_rows BIGINT NOT NULL,
                PRIMARY KEY (model, day, caller, replica))""",
        ),
    ),
    Step(4, "shares", ("ALTER TABLE roles ADD COLUMN shares TEXT",)),
    Step(5, "shadow", ("ALTER TABLE roles ADD COLUMN shadow TEXT",)),
    Step(
        6,
        "losses",
        (
            """CREATE TABLE losses (
                model TEXT NOT NULL, replica TEXT NOT NULL, lost_from TEXT NOT NULL,
                reason TEXT NOT NULL, first_at TEXT NOT NULL, last_at TEXT NOT NULL,
                num_rows BIGINT NOT NULL,
                PRIMARY KEY (model, replica, lost_from, reason, first_at))""",
        ),
    ),
)


def migrate(connection: Connection, steps: tuple[Step, ...] = STEPS) -> list[int]:
    """Apply the steps that the ledger lacks, in order, inside the caller's transaction.

    Returns the numbers applied. Raises LedgerMismatch when the ledger is newer than this software
    or a step it recorded reads differently here.
    """
    connection.execute(
        text(
            "CREATE TABLE IF NOT EXISTS migrations "
            "(number BIGINT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL)"
        )
    )
    applied = {
        int(number): digest
        for number, digest in connection.execute(text("SELECT number, digest FROM migrations"))
    }
    known = {step.number: step for step in steps}
    for number, digest in sorted(applied.items()):
        if number not in known:
            raise LedgerMismatch(
                f"ledger: schema step {number} is unknown here; it was written by a newer "
                "version, update this one"
            )
        if known[number].digest != digest:
            raise LedgerMismatch(
                f"ledger: schema step {number} ({known[number].name}) differs from the one "
                "applied; "
                "add a new step instead of editing an old one"
            )
    missing = [step for step in sorted(steps) if step.number not in applied]
    for step in missing:
        for statement in step.statements:
            connection.execute(text(statement))
        connection.execute(
            text("INSERT INTO migrations (number, name, digest) VALUES (:number, :name, :digest)"),
            {"number": step.number, "name": step.name, "digest": step.digest},
        )
    return [step.number for step in missing]

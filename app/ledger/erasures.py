"""Keep what is meant and done about erasures: tombstones, steps, reductions, marks, receipts.

Knows keyed hashes and counts; knows nobody by name, and nothing of how a store forgets. An erasure
is written down before the first row goes; a step is written down when it is done, so that whoever
resumes does the rest.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    BigInteger,
    Connection,
    Row,
    Text,
    column,
    func,
    insert,
    select,
    table,
    update,
)

from app.contracts.erasure import ErasureReceipt, Reduction
from app.ledger.database import Ledger, UtcTime
from app.ledger.journal import append
from app.security.tombstones import TombstoneKind, Tombstones

ERASURES = table(
    "erasures",
    column("receipt", Text),
    column("model", Text),
    column("sequence", BigInteger),
    column("began_at", UtcTime),
    column("subjects", Text),
    column("record", Text),
)
STEPS = table(
    "erasure_steps",
    column("receipt", Text),
    column("step", Text),
    column("model", Text),
    column("at", UtcTime),
    column("outcome", Text),
)
TOMBSTONES = table(
    "tombstones",
    column("model", Text),
    column("kind", Text),
    column("hash", Text),
    column("receipt", Text),
    column("level", BigInteger),
)
REDUCTIONS = table(
    "reductions",
    column("receipt", Text),
    column("snapshot", Text),
    column("model", Text),
    column("record", Text),
)


class ErasureUnknown(ValueError):
    """No erasure has that receipt."""


class Erasure(NamedTuple):
    """One erasure as it was meant, and how far it has come."""

    receipt: str
    model: str
    began_at: datetime
    subjects: tuple[str, ...]
    steps: dict[str, dict[str, Any]]
    record: ErasureReceipt | None


def begin_erasure(
    connection: Connection, model: str, receipt: str, subjects: Iterable[str], at: datetime
) -> None:
    """Write down what is meant, with the subjects' tombstones, before anything is deleted."""
    hashes = sorted(subjects)
    number = select(func.count()).select_from(ERASURES).where(ERASURES.c.model == model)
    sequence = int(connection.execute(number).scalar_one()) + 1
    connection.execute(
        insert(ERASURES).values(
            receipt=receipt,
            model=model,
            sequence=sequence,
            began_at=at,
            subjects=orjson.dumps(hashes).decode(),
            record=None,
        )
    )
    add_tombstones(connection, model, receipt, [("subject", hash_) for hash_ in hashes])
    append(connection, model, "erasure begun", {"receipt": receipt, "subjects": hashes}, at)


def add_tombstones(
    connection: Connection, model: str, receipt: str, hashes: Iterable[tuple[TombstoneKind, str]]
) -> None:
    """Keep the tombstones that an erasure sets; one that it has set stays as it is."""
    wanted = set(hashes)
    standing = select(TOMBSTONES.c.kind, TOMBSTONES.c.hash).where(TOMBSTONES.c.receipt == receipt)
    missing = wanted - {(row.kind, row.hash) for row in connection.execute(standing)}
    level = _level(connection, model) + 1
    rows = [
        {"model": model, "kind": kind, "hash": hash_, "receipt": receipt, "level": level}
        for kind, hash_ in sorted(missing)
    ]
    if rows:
        connection.execute(insert(TOMBSTONES), rows)


def note_rows(ledger: Ledger, model: str, hashes: Iterable[str]) -> None:
    """Keep tombstones of rows that were captured before an erasure and dropped after it."""
    with ledger.transaction() as connection:
        latest = select(ERASURES.c.receipt).where(ERASURES.c.model == model)
        receipt = connection.execute(latest.order_by(ERASURES.c.sequence.desc()).limit(1)).scalar()
        if receipt is None:
            raise ErasureUnknown(f"{model}: rows were dropped, and there is no erasure")
        add_tombstones(connection, model, receipt, [("row", hash_) for hash_ in hashes])


def complete_step(
    connection: Connection,
    model: str,
    receipt: str,
    step: str,
    outcome: Mapping[str, object],
    at: datetime,
) -> None:
    """Write down that a step is done, inside the caller's transaction; a second time changes it."""
    mine = (STEPS.c.receipt == receipt) & (STEPS.c.step == step)
    written = orjson.dumps(dict(outcome), option=orjson.OPT_SORT_KEYS).decode()
    changed = connection.execute(update(STEPS).where(mine).values(outcome=written, at=at))
    if changed.rowcount:
        return
    connection.execute(
        insert(STEPS).values(receipt=receipt, step=step, model=model, at=at, outcome=written)
    )


def record_reductions(connection: Connection, model: str, reductions: Iterable[Reduction]) -> None:
    """Keep what snapshots were and will be."""
    for item in reductions:
        record = item.model_copy(update={"pending": False}).model_dump_json()
        connection.execute(
            insert(REDUCTIONS).values(
                receipt=item.receipt, snapshot=item.snapshot, model=model, record=record
            )
        )


def finish_erasure(connection: Connection, receipt: ErasureReceipt) -> None:
    """Write the receipt down, and into the journal."""
    mine = ERASURES.c.receipt == receipt.id
    changed = connection.execute(
        update(ERASURES).where(mine).values(record=receipt.model_dump_json())
    )
    if changed.rowcount != 1:
        raise ErasureUnknown(f"erasure {receipt.id}: was never begun")
    payload = receipt.model_dump(mode="json")
    append(connection, receipt.model, "erasure finished", payload, receipt.finished_at)


def read_erasures(ledger: Ledger, model: str) -> list[Erasure]:
    """List a model's erasures, oldest first."""
    query = select(ERASURES).where(ERASURES.c.model == model).order_by(ERASURES.c.sequence)
    with ledger.reading() as connection:
        return [_erasure(connection, row) for row in connection.execute(query).all()]


def find_erasure(ledger: Ledger, model: str, receipt: str) -> Erasure:
    """Find an erasure by its receipt. Raises ErasureUnknown."""
    for erasure in read_erasures(ledger, model):
        if erasure.receipt == receipt:
            return erasure
    raise ErasureUnknown(f"{model}: no erasure has the receipt {receipt}; see jobs.erase --list")


def tombstone_level(ledger: Ledger, model: str) -> int:
    """Give a number that grows whenever tombstones are added. Cheap: made to poll."""
    with ledger.reading() as connection:
        return _level(connection, model)


def read_tombstones(ledger: Ledger, model: str, empty: Tombstones) -> Tombstones:
    """Read a model's tombstones under the key of empty ones."""
    query = select(TOMBSTONES.c.kind, TOMBSTONES.c.hash).where(TOMBSTONES.c.model == model)
    with ledger.reading() as connection:
        return empty.having((row.kind, row.hash) for row in connection.execute(query))


def read_reductions(ledger: Ledger, model: str) -> tuple[Reduction, ...]:
    """List the reductions of a model's snapshots in the order in which they were made."""
    query = (
        select(REDUCTIONS.c.record, ERASURES.c.record.label("receipt_record"))
        .join(ERASURES, ERASURES.c.receipt == REDUCTIONS.c.receipt)
        .where(REDUCTIONS.c.model == model)
        .order_by(ERASURES.c.sequence, REDUCTIONS.c.snapshot)
    )
    with ledger.reading() as connection:
        return tuple(
            Reduction.model_validate_json(row.record).model_copy(
                update={"pending": row.receipt_record is None}
            )
            for row in connection.execute(query)
        )


def _level(connection: Connection, model: str) -> int:
    highest = select(func.max(TOMBSTONES.c.level)).where(TOMBSTONES.c.model == model)
    return int(connection.execute(highest).scalar() or 0)


def _erasure(connection: Connection, row: Row[Any]) -> Erasure:
    done = connection.execute(select(STEPS).where(STEPS.c.receipt == row.receipt))
    return Erasure(
        receipt=row.receipt,
        model=row.model,
        began_at=row.began_at,
        subjects=tuple(orjson.loads(row.subjects)),
        steps={step.step: orjson.loads(step.outcome) for step in done},
        record=None if row.record is None else ErasureReceipt.model_validate_json(row.record),
    )

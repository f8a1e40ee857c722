"""Check a receipt again: what it says against the journal, and the stores against what it says.

Knows receipts, the journal and the workplace; knows nobody by name. Without the subject, rows are
known by their tombstones and pseudonyms by their look; with it, bytes are searched for it too.
"""

from collections.abc import Iterable

from app.contracts.erasure import ErasureReceipt
from app.contracts.rows import Frozen
from app.governance.needles import Needles
from app.governance.workplace import Workplace
from app.ledger import journal
from app.ledger.erasures import find_erasure


class Verification(Frozen):
    """What checking a receipt again came to."""

    receipt: str
    model: str
    verified: bool
    problems: tuple[str, ...]


def verify_receipt(place: Workplace, receipt: str, subjects: Iterable[str] = ()) -> Verification:
    """Check a receipt again, and search everything again for what it says is gone.

    `subjects` may name those it was about, or some of them. Raises ErasureUnknown for a receipt
    that was never given, ValueError for a subject that it was not about.
    """
    found = find_erasure(place.ledger, place.config.name, receipt)
    strangers = [v for v in subjects if place.empty.subject(v) not in found.subjects]
    if strangers:
        raise ValueError(
            f"erasure {receipt}: was not about {len(strangers)} of the subjects given; leave them "
            "out, or name the receipt that was"
        )
    if found.record is None:
        unfinished = (f"{receipt} is not finished; run jobs.erase --resume",)
        return Verification(receipt=receipt, model=found.model, verified=False, problems=unfinished)
    problems = [*journal.verify(place.ledger), *_not_as_written(place, found.record)]
    needles = Needles(place.tombstones(), frozenset(subjects))
    problems += [f"something is left in {where}" for where in place.left_over(needles)]
    return Verification(
        receipt=receipt, model=found.model, verified=not problems, problems=tuple(problems)
    )


def _not_as_written(place: Workplace, record: ErasureReceipt) -> list[str]:
    """Compare the receipt with the one that the journal's chain holds."""
    written = [
        entry.payload
        for entry in journal.entries(place.ledger, record.model)
        if entry.kind == "erasure finished" and entry.payload.get("id") == record.id
    ]
    if written != [record.model_dump(mode="json")]:
        return [f"{record.id}: differs from what the journal says"]
    return []

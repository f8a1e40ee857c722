"""Plan the forgetting of subjects: which steps in which order, and what the receipt says.

Knows names of steps and stores, counts and digests; knows nobody by name, and nothing of how a
store forgets or of where it is. Every step may be done again, so that an erasure which was cut off
anywhere goes on with the first step that is not written down as done.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from app.contracts.erasure import ErasureReceipt, Reduction
from app.ledger.erasures import Erasure

CAPTURED, QUIET, TRACE, QUIET_AGAIN = "captured", "quiet", "trace", "quiet again"
SNAPSHOTS, MODELS, PURGE, VERIFY = "snapshots", "models", "purge", "verify"
FORGET = "forget "


def steps_of(stores: Sequence[str]) -> tuple[str, ...]:
    """List the steps of an erasure over some stores, in order.

    First nobody can bring rows of the subjects any more, then it is found out which rows they are
    and what depends on them, and only then anything is deleted: a later step needs no row that an
    earlier one took.

    >>> steps_of(["events"])[-3:]
    ('forget events', 'purge', 'verify')
    """
    forgetting = tuple(f"{FORGET}{store}" for store in stores)
    return (CAPTURED, QUIET, TRACE, QUIET_AGAIN, SNAPSHOTS, MODELS, *forgetting, PURGE, VERIFY)


def next_step(steps: Sequence[str], done: Collection[str]) -> str | None:
    """Give the first step that is not done; None when all are."""
    return next((step for step in steps if step not in done), None)


def receipt_of(model: str, subjects: Collection[str], number: int) -> str:
    """Name the erasure that is a model's n-th: the same plan has the same name.

    >>> receipt_of("flights", ["aa"], 1) == receipt_of("flights", ["aa"], 1)
    True
    """
    content = "\0".join([model, str(number), *sorted(subjects)])
    return f"e{number:04d}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def open_erasure(erasures: Sequence[Erasure]) -> Erasure | None:
    """Find the erasure that was begun and not finished; there is at most one."""
    return next((erasure for erasure in erasures if erasure.record is None), None)


def latest_of(erasures: Sequence[Erasure], subjects: Collection[str]) -> Erasure | None:
    """Find the latest finished erasure that was about all of some subjects."""
    wanted = set(subjects)
    about = [each for each in erasures if each.record and wanted <= set(each.subjects)]
    return about[-1] if about else None


def make_receipt(
    erasure: Erasure, reductions: Sequence[Reduction], finished_at: datetime
) -> ErasureReceipt:
    """Sum up what the steps of an erasure came to."""
    steps: Mapping[str, Mapping[str, Any]] = erasure.steps
    remains = tuple(steps[VERIFY]["remains"])
    return ErasureReceipt(
        id=erasure.receipt,
        model=erasure.model,
        began_at=erasure.began_at,
        finished_at=finished_at,
        subjects=erasure.subjects,
        counts={**steps[TRACE]["counts"], **steps[CAPTURED]["counts"]},
        snapshots=tuple(
            item.model_copy(update={"pending": False})
            for item in reductions
            if item.receipt == erasure.receipt
        ),
        altered=tuple(steps[SNAPSHOTS]["altered"]),
        models=tuple(steps[MODELS]["models"]),
        verified=not remains,
        remains=remains,
    )


def tell_receipt(receipt: ErasureReceipt) -> list[str]:
    """Say a receipt in sentences, for people."""
    found = [f"{count:,} in {store}" for store, count in receipt.counts.items() if count]
    lines = [
        f"{receipt.id}: forgot {len(receipt.subjects)} subject(s); "
        f"found {', '.join(found) or 'nothing of them'}"
    ]
    lines += [
        f"snapshot {item.snapshot[:12]}: {item.num_rows_before:,} rows, "
        f"now {item.num_rows_after:,}, digest {item.after[:12]}"
        for item in receipt.snapshots
    ]
    if receipt.altered:
        lines.append(f"altered before, left as found: {', '.join(d[:12] for d in receipt.altered)}")
    if receipt.models:
        marked = ", ".join(digest[:12] for digest in receipt.models)
        lines.append(f"had learned from them: {marked}; the next training does not")
    if receipt.verified:
        lines.append("verified: a search of every file found nothing of them")
    else:
        lines.append(f"NOT VERIFIED, something is left in: {', '.join(receipt.remains)}")
    return lines

"""Carry out erasures: step by step, each written down when it is done.

Knows the ledger and the clock it is given; which step comes next is for erasure.py to say, and what
a step does for working.py. Killed at any instant, it goes on with the step that was under way.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from app.contracts.erasure import ErasureReceipt
from app.data.locks import exclusive
from app.governance.erasure import (
    latest_of,
    make_receipt,
    next_step,
    open_erasure,
    receipt_of,
    steps_of,
)
from app.governance.needles import Needles
from app.governance.tracing import trace_rows
from app.governance.working import Work
from app.governance.workplace import Workplace
from app.ledger.erasures import (
    Erasure,
    begin_erasure,
    complete_step,
    find_erasure,
    finish_erasure,
    read_erasures,
    read_reductions,
)


@dataclass(frozen=True)
class Erased:
    """What an erasure came to. `repeated`: it was done before and nothing was left to do."""

    receipt: ErasureReceipt
    repeated: bool = False


@dataclass(frozen=True)
class Eraser:
    """Forgets subjects in one workspace. `now` tells the time."""

    place: Workplace
    now: Callable[[], datetime]

    def erase(self, subjects: Iterable[str]) -> Erased:
        """Forget subjects, given by their values or pseudonyms, in one pass over everything.

        An erasure that was cut off is finished first. Raises ErasureBlocked when a replica does not
        ship rows that it captured, or somebody keeps the ledger busy: then it can be resumed.
        """
        values = sorted({value for value in subjects if value})
        if not values:
            raise ValueError("erasure: no subject was given; give one a line")
        hashes = {self.place.empty.subject(value) for value in values}
        with self._alone():
            unfinished = self._resume(values)
            if unfinished is not None and set(unfinished.receipt.subjects) == hashes:
                return unfinished
            before = latest_of(self._erasures(), hashes)
            if before is not None and before.record and not self._is_left(before, values):
                return Erased(before.record, repeated=True)
            return self._run(self._begin(hashes), values)

    def resume(self, subjects: Iterable[str] = ()) -> Erased | None:
        """Finish the erasure that was cut off, if there is one.

        With the subjects' values the last search can look for them too.
        """
        with self._alone():
            return self._resume(subjects)

    def _alone(self) -> AbstractContextManager[None]:
        root = self.place.config.tables_path
        root.mkdir(parents=True, exist_ok=True)
        return exclusive(root / "erasure")

    def _erasures(self) -> list[Erasure]:
        return read_erasures(self.place.ledger, self.place.config.name)

    def _resume(self, subjects: Iterable[str]) -> Erased | None:
        found = open_erasure(self._erasures())
        if found is None:
            return None
        theirs = [value for value in subjects if self.place.empty.subject(value) in found.subjects]
        return self._run(found, theirs)

    def _begin(self, hashes: set[str]) -> Erasure:
        model, ledger = self.place.config.name, self.place.ledger
        receipt = receipt_of(model, hashes, len(self._erasures()) + 1)
        with ledger.transaction() as connection:
            begin_erasure(connection, model, receipt, hashes, self.now())
        return find_erasure(ledger, model, receipt)

    def _is_left(self, before: Erasure, values: Sequence[str]) -> bool:
        """Tell whether something of subjects that were forgotten before is there again."""
        erased = self.place.tombstones()
        if before.record is None or not before.record.verified:
            return True
        if trace_rows(self.place.tables, erased):
            return True
        return bool(self.place.left_over(Needles(erased, frozenset(values))))

    def _run(self, begun: Erasure, values: Iterable[str]) -> Erased:
        """Do the steps that are not done, and write the receipt."""
        place, model, receipt = self.place, begun.model, begun.receipt
        steps = steps_of([store.name for store in place.all_stores])
        work = Work(place, begun, frozenset(values))
        done = set(begun.steps)
        while (step := next_step(steps, done)) is not None:
            place.progress(step, len(done), len(steps))
            outcome, record = work.do(step)
            with place.ledger.transaction() as connection:
                record(connection)
                complete_step(connection, model, receipt, step, outcome, self.now())
            done.add(step)
        place.progress("done", len(steps), len(steps))
        finished = find_erasure(place.ledger, model, receipt)
        written = make_receipt(finished, read_reductions(place.ledger, model), self.now())
        with place.ledger.transaction() as connection:
            finish_erasure(connection, written)
        return Erased(written)

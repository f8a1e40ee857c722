"""Do one step of an erasure: what it takes away, and what is written down with it.

Knows tables, stores, snapshots and the registry; which step comes next, and when it counts as done,
is for others to say. Every step may be done again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection

from app.contracts.erasure import Reduction
from app.contracts.records import DatasetVersion
from app.data.arrivals import await_arrivals, captured_arriving
from app.data.forgetting import Mask, about_erased, ids_of_others
from app.data.snapshots import SnapshotAltered, digest_rows, open_snapshot, snapshot_rows
from app.data.staging import clear_leftovers
from app.data.storefile import StoreBusy
from app.data.tables import TableName
from app.governance import erasure
from app.governance.learned import forget_fits, known_snapshots
from app.governance.needles import Needles
from app.governance.tracing import trace_rows
from app.governance.workplace import Workplace
from app.ledger.database import LedgerBusy
from app.ledger.erasures import (
    Erasure,
    add_tombstones,
    find_erasure,
    read_reductions,
    record_reductions,
)
from app.registry.marks import learned_from, mark_versions
from app.registry.store import list_versions
from app.security.tombstones import Tombstones
from app.serving.shipping import adopt_spools

QUIET_PAUSE_SECONDS = 0.2
QUIET_SPARE_SECONDS = 30.0
Record = Callable[[Connection], None]
Outcome = tuple[dict[str, Any], Record]


class ErasureBlocked(ValueError):
    """Somebody keeps the erasure from going on; it can be resumed."""


class Work:
    """The steps of one erasure: what each does, and what is written down with it."""

    def __init__(self, place: Workplace, begun: Erasure, values: frozenset[str]) -> None:
        """Work on an erasure; the subjects' values, when they are known, are searched for."""
        self._place = place
        self._begun = begun
        self._values = values
        self._row_ids: frozenset[str] = frozenset()

    def do(self, step: str) -> Outcome:
        """Do a step; returns its outcome and what to record in the same transaction."""
        if step.startswith(erasure.FORGET):
            return self._forget(step.removeprefix(erasure.FORGET))
        steps: dict[str, Callable[[], Outcome]] = {
            erasure.CAPTURED: self._note_captured,
            erasure.QUIET: self._await_quiet,
            erasure.TRACE: self._trace,
            erasure.QUIET_AGAIN: self._await_quiet,
            erasure.SNAPSHOTS: self._reduce,
            erasure.MODELS: self._mark,
            erasure.PURGE: self._purge,
            erasure.VERIFY: self._verify,
        }
        return steps[step]()

    @property
    def _erased(self) -> Tombstones:
        return self._place.tombstones()

    def _note_captured(self) -> Outcome:
        """Count captured rows and note their ids: whoever ships them drops them from now on."""
        place, erased = self._place, self._erased
        spool = place.spool
        ids = spool.row_ids(erased)
        self._row_ids = ids - ids_of_others(place.tables, erased, ids)
        erased = erased.with_rows(self._row_ids)
        return {"counts": {spool.name: spool.count(erased)}}, self._adding(erased)

    def _adding(self, erased: Tombstones) -> Record:
        model, receipt = self._begun.model, self._begun.receipt
        new = erased.hashes - self._erased.hashes

        def record(connection: Connection) -> None:
            add_tombstones(connection, model, receipt, new)

        return record

    def _await_quiet(self) -> Outcome:
        """Wait until nobody can bring their rows in any more, and captured ones are gone."""
        config, tables, erased = self._place.config, self._place.tables, self._erased
        await_arrivals(config)
        # What a killed ingest staged is in no table; a living one knows who is erased.
        clear_leftovers(config.workspace)
        with captured_arriving(
            config, self._place.ledger, tables, self._place.tombstones
        ) as arrival:
            adopt_spools(config.spool_path, tables, arrival)
        spool = self._place.spool
        deadline = time.monotonic() + QUIET_SPARE_SECONDS + 2 * config.serving.ship_seconds
        while holding := spool.holding(erased):
            if time.monotonic() > deadline:
                names = ", ".join(path.parent.name for path in holding)
                raise ErasureBlocked(
                    f"spool: {names} does not ship rows that it captured; see the replica's log or "
                    "stop it, then run jobs.erase --resume"
                )
            time.sleep(QUIET_PAUSE_SECONDS)
        return {}, _nothing

    def _trace(self) -> Outcome:
        """Find the subjects' rows and count everything, before any of it goes."""
        place, erased = self._place, self._erased
        self._row_ids |= trace_rows(place.tables, erased)
        erased = erased.with_rows(self._row_ids)
        counts = {store.name: store.count(erased) for store in place.all_stores}
        return {"counts": counts}, self._adding(erased)

    def _reduce(self) -> Outcome:
        """Say of every known snapshot what it holds and what will be left of it."""
        place = self._place
        known = known_snapshots(place.config, place.ledger)
        earlier = read_reductions(place.ledger, place.config.name)
        reductions, altered = list[Reduction](), list[str]()
        for number, dataset in enumerate(known.values()):
            place.progress(f"snapshot {dataset.digest[:12]}", number, len(known))
            try:
                reduction = self._reduction(dataset, earlier)
            except SnapshotAltered:
                altered.append(dataset.digest)
                continue
            if reduction is not None:
                reductions.append(reduction)

        def record(connection: Connection) -> None:
            record_reductions(connection, place.config.name, reductions)

        return {"altered": altered, "num_snapshots": len(known)}, record

    def _reduction(self, dataset: DatasetVersion, earlier: Sequence[Reduction]) -> Reduction | None:
        tables, contract = self._place.tables, self._place.config.contract
        erased = self._erased

        def keep(name: TableName, rows: pa.Table) -> Mask:
            return np.logical_not(about_erased(name, rows, contract, erased))

        rows, check = open_snapshot(tables, contract, dataset, earlier)
        if check.state == "altered":
            raise SnapshotAltered(check.reason)
        left = snapshot_rows(tables, contract, dataset, keep)
        after = digest_rows(left)
        if after == check.found:
            return None
        return Reduction(
            receipt=self._begun.receipt,
            snapshot=dataset.digest,
            before=check.found,
            after=after,
            num_rows_before=rows.num_rows,
            num_rows_after=left.num_rows,
        )

    def _mark(self) -> Outcome:
        """Mark the versions that had learned from them, and drop comparators' cached fits.

        A snapshot that cannot be checked any more may have held their rows: it counts.
        """
        place, receipt = self._place, self._begun.receipt
        model = place.config.name
        reductions = read_reductions(place.ledger, model)
        reduced = {item.snapshot for item in reductions if item.receipt == receipt}
        steps = find_erasure(place.ledger, model, receipt).steps
        unclear = set(steps[erasure.SNAPSHOTS]["altered"]) if self._is_found(steps) else set()
        models = learned_from(list_versions(place.ledger, model), reduced | unclear)
        num_fits = forget_fits(place.config, place.ledger, reduced)

        def record(connection: Connection) -> None:
            mark_versions(connection, model, receipt, models)

        return {"models": list(models), "num_fits": num_fits}, record

    def _forget(self, name: str) -> Outcome:
        begun = find_erasure(self._place.ledger, self._begun.model, self._begun.receipt)
        if self._is_found(begun.steps):
            store = next(store for store in self._place.all_stores if store.name == name)
            try:
                store.forget(self._erased)
            except StoreBusy as error:
                raise ErasureBlocked(f"{error}; then run jobs.erase --resume") from error
        return {}, _nothing

    def _is_found(self, steps: Mapping[str, Mapping[str, Any]]) -> bool:
        """Tell whether anything at all was found of them."""
        counts = [steps[step]["counts"] for step in (erasure.TRACE, erasure.CAPTURED)]
        return any(number for each in counts for number in each.values())

    def _purge(self) -> Outcome:
        try:
            self._place.ledger.purge()
        except LedgerBusy as error:
            raise ErasureBlocked(f"{error}; then run jobs.erase --resume") from error
        return {}, _nothing

    def _verify(self) -> Outcome:
        needles = Needles(self._erased, self._values, self._row_ids)
        remains = self._place.left_over(needles)
        return {"remains": remains}, _nothing


def _nothing(connection: Connection) -> None:
    """Record nothing beside the step itself."""

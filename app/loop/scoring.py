"""Score rows with two versions, as they were known at a time, for the gate and the watch.

Knows tables, snapshots and bundles; knows nothing of limits, roles or Ray.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from app.contracts.records import ModelVersion
from app.contracts.rows import Contract
from app.contracts.targets import refuse_other_target
from app.contracts.times import day_numbers, midnight, number_of
from app.contracts.windows import refuse_other_windows
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.tables import Tables
from app.loop.gate import gate_days
from app.loop.held_out import held_out, outside
from app.loop.paired import PairedRows
from app.model.bundle import ModelBundle
from app.registry.artifacts import Artifacts


@dataclass(frozen=True)
class Store:
    """Where rows and bundles of one model are."""

    tables: Tables
    contract: Contract
    artifacts: Artifacts

    def bundle(self, digest: str) -> ModelBundle:
        """Load a verified bundle.

        Raises ValueError when its windows, or what it predicts, are declared otherwise now.
        """
        bundle = ModelBundle.load(self.artifacts.path(digest), digest)
        refuse_other_windows(bundle.contract, self.contract)
        refuse_other_target(bundle.contract, self.contract)
        return bundle

    def outcomes(self, start: datetime, end: datetime, known_at: datetime) -> pa.Table:
        """Load the rows of [start, end) whose outcome was known at a time."""
        dataset = take_snapshot(self.tables, self.contract, start, end, known_at)
        rows = load_snapshot(self.tables, self.contract, dataset)
        return rows.filter(pc.equal(rows["state"], "known"))

    def outcomes_of_days(self, days: tuple[str, ...], known_at: datetime) -> pa.Table:
        """Load the rows of some UTC days whose outcome was known at a time."""
        if not days:
            return self.outcomes(known_at, known_at, known_at)
        dates = sorted(date.fromisoformat(day) for day in days)
        start = midnight(dates[0])
        end = min(midnight(dates[-1]) + timedelta(days=1), known_at)
        rows = self.outcomes(start, end, known_at)
        numbers = [number_of(day) for day in dates]
        return rows.filter(pa.array(np.isin(day_numbers(rows["prediction_time"]), numbers)))

    def gate_rows(self, new: ModelVersion, old: ModelVersion | None) -> pa.Table:
        """Load the rows with a known outcome that shaped neither version."""
        by_share = [version for version in (new, old) if version and version.held_out_share]
        known_at = new.dataset.known_at
        if not by_share:
            return self.outcomes_of_days(gate_days(new, old), known_at)
        rows = self.outcomes(new.dataset.start, new.dataset.end, known_at)
        fair = held_out(rows, new, self.contract)
        if old is not None:
            fair &= outside(rows, old, self.contract)
        return rows.filter(pa.array(fair))

    def paired(
        self,
        rows: pa.Table,
        old: str | None,
        new: str,
        part: NDArray[np.int64] | None = None,
    ) -> PairedRows:
        """Score rows with both versions by the one definition of a prediction.

        `part` numbers the parts that stand in for days where days mean nothing.
        """
        after = self.bundle(new).predict(rows)
        before = self.bundle(old).predict(rows) if old is not None else after
        return PairedRows(
            label=rows["label"].to_numpy(),
            old=before,
            new=after,
            day=day_numbers(rows["prediction_time"]) if part is None else part,
            unit="day" if part is None else "part",
            slices={name: rows[name].to_numpy().astype(object) for name in self.contract.slices},
        )

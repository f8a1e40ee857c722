"""Say what is in a snapshot: its window, its rows by month, its columns, its state, its models.

Knows tables, the registry and receipts; knows nothing of how it is shown. Values of personal
columns are counted, never given.
"""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AwareDatetime, Field

from app.config import Config
from app.contracts.records import DatasetVersion
from app.contracts.rows import Column, Contract, Frozen
from app.data.reductions import SnapshotCheck
from app.data.snapshots import open_snapshot
from app.data.tables import Tables
from app.governance.learned import known_snapshots, versions_of
from app.ledger.database import Ledger
from app.ledger.erasures import read_reductions
from app.registry.marks import erased_versions
from app.registry.store import list_versions

MIN_PREFIX = 6
TOP_VALUES = 3


class SnapshotUnknown(ValueError):
    """No snapshot, and no version that learned from one, has that digest."""


class MonthCount(Frozen):
    """Rows of one UTC month by what is known of their outcome."""

    month: str
    num_rows: int
    num_known: int
    num_void: int
    num_pending: int
    positive_share: float | None


class ColumnContent(Frozen):
    """What one column holds. `low`, `high` and `top` are absent where they would name somebody."""

    name: str
    kind: str
    num_nulls: int
    num_distinct: int
    low: float | AwareDatetime | None = None
    high: float | AwareDatetime | None = None
    top: dict[str, int] = Field(default_factory=dict)


class ModelLearned(Frozen):
    """A version that learned from the snapshot."""

    digest: str
    run: str
    kind: str
    created_at: AwareDatetime
    erased_by: tuple[str, ...] = ()


class SnapshotContents(Frozen):
    """Everything that there is to say about a snapshot."""

    dataset: DatasetVersion
    check: SnapshotCheck
    num_rows: int
    num_known: int
    num_void: int
    num_pending: int
    months: tuple[MonthCount, ...]
    columns: tuple[ColumnContent, ...]
    models: tuple[ModelLearned, ...]


def find_snapshot(config: Config, ledger: Ledger, name: str) -> DatasetVersion:
    """Find a snapshot by the beginning of its digest, or of the digest of a version.

    Raises SnapshotUnknown when none, or more than one, is named so.
    """
    if len(name) < MIN_PREFIX:
        raise SnapshotUnknown(f"snapshot {name!r}: give at least {MIN_PREFIX} digits of its digest")
    found = {d: s for d, s in known_snapshots(config, ledger).items() if d.startswith(name)}
    for version in list_versions(ledger, config.name):
        if version.digest.startswith(name):
            found[version.dataset.digest] = version.dataset
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise SnapshotUnknown(f"snapshot {name}: may be any of {', '.join(sorted(found))}")
    raise SnapshotUnknown(
        f"snapshot {name}: no snapshot and no version of {config.name} has that digest; "
        "jobs.status and MLflow name those that there are"
    )


def describe_snapshot(
    config: Config, ledger: Ledger, tables: Tables, dataset: DatasetVersion
) -> SnapshotContents:
    """Load a snapshot and describe what the tables give for it now, also when it is altered.

    Raises SnapshotAltered when its versions cannot be read at all.
    """
    reductions = read_reductions(ledger, config.name)
    rows, check = open_snapshot(tables, config.contract, dataset, reductions)
    marks = erased_versions(ledger, config.name)
    states = rows["state"]
    return SnapshotContents(
        dataset=dataset,
        check=check,
        num_rows=rows.num_rows,
        num_known=_count(states, "known"),
        num_void=_count(states, "void"),
        num_pending=_count(states, "pending"),
        months=_months(rows, config.contract),
        columns=tuple(_column(rows[c.name], c) for c in config.contract.columns),
        models=tuple(
            ModelLearned(
                digest=version.digest,
                run=version.run,
                kind=version.kind,
                created_at=version.created_at,
                erased_by=marks.get(version.digest, ()),
            )
            for version in versions_of(ledger, config.name, dataset.digest)
        ),
    )


def _count(states: pa.ChunkedArray, state: str) -> int:
    return int(pc.sum(pc.equal(states, state)).as_py() or 0)


def _months(rows: pa.Table, contract: Contract) -> tuple[MonthCount, ...]:
    months = pc.strftime(rows["prediction_time"], format="%Y-%m").combine_chunks()
    counted = []
    for month in sorted(months.unique().to_pylist()):
        part = rows.filter(pc.equal(months, month))
        # A place among classes and a number have no positive ones.
        positive = pc.mean(part["label"]).as_py() if contract.task == "binary" else None
        counted.append(
            MonthCount(
                month=month,
                num_rows=part.num_rows,
                num_known=_count(part["state"], "known"),
                num_void=_count(part["state"], "void"),
                num_pending=_count(part["state"], "pending"),
                positive_share=positive,
            )
        )
    return tuple(counted)


def _column(values: pa.ChunkedArray, column: Column) -> ColumnContent:
    low: float | datetime | None = None
    high: float | datetime | None = None
    top: dict[str, int] = {}
    if column.kind in ("number", "time"):
        limits = pc.min_max(values).as_py()
        low, high = limits["min"], limits["max"]
    elif column.kind == "category" and column.privacy != "personal":
        counts = pc.value_counts(values.drop_null())
        order = np.argsort(-counts.field(1).to_numpy(), kind="stable")[:TOP_VALUES]
        top = {counts.field(0)[int(i)].as_py(): counts.field(1)[int(i)].as_py() for i in order}
    return ColumnContent(
        name=column.name,
        kind=column.kind,
        num_nulls=values.null_count,
        num_distinct=pc.count_distinct(values, mode="only_valid").as_py(),
        low=low,
        high=high,
        top=top,
    )

"""Draw an Evidently report of a window that raised an alarm: HTML for people, JSON for programs.

Knows Evidently and how its frames must look; knows nothing of Ray, of alarms or of who asked. It
takes many seconds and hundreds of megabytes, so the monitor has it run apart.
"""

import os
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from app.config import Config
from app.contracts.records import DatasetVersion
from app.contracts.rows import TIMESTAMP, Contract
from app.data.snapshots import load_snapshot
from app.data.tables import open_tables
from app.ledger.database import open_ledger
from app.ledger.erasures import read_reductions
from app.monitoring.distinct import first
from app.monitoring.evidence import Window
from app.monitoring.fold import LIVE_SOURCE

PSI_THRESHOLD = 0.25


class ReportFiles(NamedTuple):
    """Where a report was written."""

    html: Path
    json: Path


def report_window(
    config: Config, dataset: DatasetVersion, window: Window, name: str
) -> ReportFiles:
    """Compare the rows that a version learned from with the live rows of a window.

    Both sides are thinned to `monitoring.report_rows`. Raises SnapshotAltered when the training
    rows are not the ones that were pinned, nor what erasures left of them.
    """
    tables = open_tables(config)
    with closing(open_ledger(config.ledger_url)) as ledger:
        reductions = read_reductions(ledger, config.name)
    reference = load_snapshot(tables, config.contract, dataset, reductions)
    time = pc.field("prediction_time")
    after, before = pa.scalar(window.start, TIMESTAMP), pa.scalar(window.end, TIMESTAMP)
    inside = (time >= after) & (time < before) & (pc.field("source") == LIVE_SOURCE)
    live = first(tables.read("events", filters=inside), [config.contract.id])
    num_rows, key = config.monitoring.report_rows, config.contract.id
    reference, live = thinned(reference, num_rows, key), thinned(live, num_rows, key)
    return write_report(reference, live, config.contract, config.reports_path, name)


def write_report(
    reference: pa.Table, live: pa.Table, contract: Contract, folder: Path, name: str
) -> ReportFiles:
    """Run Evidently's drift preset over two tables; write `name`.html and `name`.json, each whole.

    Columns without a value on one of the sides are left out: Evidently cannot compare nothing.
    Raises ValueError when no column is left.
    """
    numbers, categories = comparable(reference, live, contract)
    if not numbers and not categories:
        raise ValueError(f"report {name}: no column has values in training and in the window")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Slow to import, and only this process needs it.
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    frames = [
        Dataset.from_pandas(plain_frame(rows, numbers, categories), data_definition=definition)
        for rows in (live, reference)
    ]
    preset = DataDriftPreset(method="psi", threshold=PSI_THRESHOLD)
    snapshot = Report([preset], include_tests=True).run(*frames)
    files = ReportFiles(folder / f"{name}.html", folder / f"{name}.json")
    folder.mkdir(parents=True, exist_ok=True)
    _write(files.json, snapshot.json())
    _write(files.html, snapshot.get_html_str(as_iframe=False))
    return files


def comparable(
    reference: pa.Table, live: pa.Table, contract: Contract
) -> tuple[list[str], list[str]]:
    """Name the numbers and the categories among the features that have values on both sides."""
    named = [
        column
        for column in contract.features
        if all(rows[column.name].null_count < rows.num_rows for rows in (reference, live))
    ]
    numbers = [column.name for column in named if column.kind == "number"]
    return numbers, [column.name for column in named if column.kind == "category"]


def plain_frame(rows: pa.Table, numbers: list[str], categories: list[str]) -> pd.DataFrame:
    """Give a frame of numpy columns: Evidently fails on Arrow-backed and on new string types."""
    columns = {name: rows[name].to_numpy().astype("float64") for name in numbers}
    frame = pd.DataFrame(columns)
    for name in categories:
        frame[name] = pd.Series(rows[name].to_pylist(), dtype="object")
    return frame


def thinned(rows: pa.Table, num_rows: int, id_column: str) -> pa.Table:
    """Keep at most so many rows, evenly over the order of their ids: the same ones every time."""
    if rows.num_rows <= num_rows:
        return rows
    ordered = pc.sort_indices(rows[id_column]).to_numpy()
    chosen = [ordered[place * rows.num_rows // num_rows] for place in range(num_rows)]
    return rows.take(pa.array(sorted(chosen)))


def _write(path: Path, content: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)

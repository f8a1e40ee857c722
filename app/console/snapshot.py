"""Draw what is in a snapshot for a terminal.

Knows the description; knows nothing of tables or how it was found.
"""

from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.governance.contents import ColumnContent, SnapshotContents

COLOURS = {"intact": "green", "reduced": "yellow", "altered": "bold red"}


def render_snapshot(contents: SnapshotContents) -> RenderableType:
    """Draw a snapshot: facts, months, columns, models."""
    dataset, check = contents.dataset, contents.check
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column()
    state = Text(f"{check.state}: {check.reason}", style=COLOURS[check.state])
    facts.add_row("state", state)
    facts.add_row("window", f"{dataset.start:%Y-%m-%d %H:%M} to {dataset.end:%Y-%m-%d %H:%M} UTC")
    facts.add_row("outcomes", f"as known at {dataset.known_at:%Y-%m-%d %H:%M} UTC")
    facts.add_row(
        "tables", f"events version {dataset.events_version}, labels {dataset.labels_version}"
    )
    facts.add_row(
        "rows",
        f"{contents.num_rows:,} of {dataset.num_rows:,} pinned: {contents.num_known:,} known, "
        f"{contents.num_void:,} void, {contents.num_pending:,} pending",
    )
    parts: list[RenderableType] = [
        Text(f"snapshot {dataset.digest}", style="bold cyan"),
        facts,
        _months(contents),
        _columns(contents),
    ]
    if contents.models:
        parts.append(_models(contents))
    return Group(*parts)


def _months(contents: SnapshotContents) -> Table:
    table = Table("month", "rows", "known", "void", "pending", "positive", title="by month")
    for month in contents.months:
        share = "" if month.positive_share is None else f"{month.positive_share:.3f}"
        counts = (month.num_rows, month.num_known, month.num_void, month.num_pending)
        table.add_row(month.month, *(f"{count:,}" for count in counts), share)
    return table


def _columns(contents: SnapshotContents) -> Table:
    table = Table("column", "kind", "nulls", "distinct", "range or most frequent", title="columns")
    for column in contents.columns:
        counts = (f"{column.num_nulls:,}", f"{column.num_distinct:,}")
        table.add_row(column.name, column.kind, *counts, _range(column))
    return table


def _range(column: ColumnContent) -> str:
    if column.low is not None:
        return f"{_limit(column.low)} to {_limit(column.high)}"
    return ", ".join(f"{value} ({count:,})" for value, count in column.top.items())


def _limit(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:g}"


def _models(contents: SnapshotContents) -> Table:
    table = Table("version", "run", "kind", "made", "erased rows", title="learned from it")
    for model in contents.models:
        told = ", ".join(model.erased_by) or "none"
        table.add_row(model.digest[:12], model.run, model.kind, f"{model.created_at:%F}", told)
    return table

"""End a replay: join what was answered with the comparators, and show it as table, page and record.

Knows the ledger's records and files below the workspace; knows nothing of how models are trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from app.config import Config
from app.console.episodes import count_acts
from app.console.page import write_page
from app.console.replay import Tally
from app.console.story import LoopReport, month_name
from app.contracts.rows import TIMESTAMP
from app.ledger.database import Ledger
from app.ledger.decisions import read_decisions
from app.ledger.evidence import read_evidence
from app.loop.comparators import scores_path, write_board
from app.loop.rehearsal import (
    POLICIES,
    PolicyScores,
    Scoreboard,
    ScoreName,
    compare,
    with_served,
)
from app.registry.store import list_versions

SECTIONS: tuple[tuple[ScoreName, str, int], ...] = (
    ("roc_auc", "ROC-AUC", 3),
    ("pr_auc", "PR-AUC", 3),
    ("brier", "Brier", 4),
)


@dataclass(frozen=True)
class Outcome:
    """What a replay ends with: for people at a terminal, for a browser, for programs."""

    table: Table
    page: Path
    record: dict[str, object]


def write_outcome(
    config: Config,
    ledger: Ledger,
    rows: pa.Table,
    labels: pa.Table,
    tally: Tally,
    seconds: float,
) -> Outcome:
    """Compare the probabilities that the endpoint answered with those of the comparators.

    `rows` and `labels` are the recorded source: production rows with an outcome that nobody could
    compare (quarantined ones) are counted. Raises ValueError when jobs.rehearse has not run.
    """
    board = served_scoreboard(config, tally.probability, num_known(config, rows, labels))
    report = LoopReport(
        scoreboard=board,
        evidence=tuple(read_evidence(ledger, config.name)),
        decisions=tuple(read_decisions(ledger, config.name)),
        versions=tuple(list_versions(ledger, config.name)),
        requests=tally.requests,
        failed=tally.failed,
    )
    write_board(config, board)
    page = write_page(report, config)
    record = make_record(report) | {"rows": tally.rows, "seconds": round(seconds, 1)}
    return Outcome(table=render_table(board), page=page, record=record | {"page": str(page)})


def served_scoreboard(
    config: Config, probability: Mapping[str, float], num_known: int | None = None
) -> Scoreboard:
    """Join what the endpoint answered, by row id, with the rows that jobs.rehearse scored."""
    path = scores_path(config)
    if not path.is_file():
        raise ValueError(f"{path}: no scored rows; run python -m jobs.rehearse first")
    span = config.replay.history_until, config.replay.until
    scores = with_served(pq.read_table(path), probability)
    return compare(config.name, config.contract.label, scores, span, num_known)


def num_known(config: Config, rows: pa.Table, labels: pa.Table) -> int:
    """Count the production rows of the source whose outcome became known."""
    contract = config.contract
    start, until = (_event_time(config, at) for at in (config.replay.start, config.replay.end))
    event_time = rows[contract.event_time].cast(TIMESTAMP)
    within = pc.and_(pc.greater_equal(event_time, start), pc.less(event_time, until))
    ids = rows.filter(within)[contract.id]
    known = labels.filter(labels["label"].is_valid())["row_id"]
    return int(pc.sum(pc.is_in(ids.unique(), value_set=known.unique().cast(ids.type))).as_py() or 0)


def make_record(report: LoopReport) -> dict[str, object]:
    """Give the figures as a program reads them; lists run by month."""
    board, counts = report.scoreboard, count_acts(report.decisions)
    first = board.policies[0]
    means = {one.policy: one.mean("roc_auc") for one in board.policies}
    return {
        "model": board.model,
        "months": list(board.months),
        "auc": _rounded(board.table("roc_auc")),
        "pr_auc": _rounded(board.table("pr_auc")),
        "brier": _rounded(board.table("brier")),
        "late_share": [round(month.positive_share, 4) for month in first.months],
        "mean_auc": {name: _round(value) for name, value in means.items()},
        **counts.model_dump(),
        "requests": report.requests,
        "failed": report.failed,
        "rows_compared": board.num_rows,
        "rows_left_out": board.num_left_out,
    }


def render_table(board: Scoreboard) -> Table:
    """Draw the scoreboard for a terminal: a section a score, a row a policy, a column a month."""
    title = f"{board.model}: {board.num_rows:,} rows with a known outcome"
    # Nine months and their mean fit a terminal of 80 columns.
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, title=title
    )
    table.add_column("")
    for month in board.months:
        table.add_column(month_name(month, 3), justify="right")
    table.add_column("mean", justify="right")
    shown = [scores for name in POLICIES if (scores := board.of(name)) is not None]
    for score, title, digits in SECTIONS:
        table.add_row(Text(title, style="bold"))
        for one in shown:
            style = "bold blue" if one.policy == "loop" else ""
            table.add_row(*_figures(one, score, digits), style=style)
        table.add_section()
    if shown:
        table.add_row(*_figures(shown[0], "positive_share", 3, name=f"{board.label} share"))
    return table


def _figures(one: PolicyScores, score: ScoreName, digits: int, name: str = "") -> list[str]:
    """Write a policy's figures by month and their mean, without the leading zero."""
    values = [*one.values(score), one.mean(score)]
    figures = ["–" if value is None else f"{value:.{digits}f}".lstrip("0") for value in values]
    return [name or f"  {one.policy}", *figures]


def _rounded(table: Mapping[str, list[float | None]]) -> dict[str, list[float | None]]:
    return {name: [_round(value) for value in values] for name, values in table.items()}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _event_time(config: Config, asked: datetime) -> pa.Scalar:
    return pa.scalar(asked + config.contract.lead, TIMESTAMP)

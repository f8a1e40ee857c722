"""Let an ingest through or stop it, and leave its report behind either way.

Knows tallies, the policy, the tables and the folder of reports; knows nothing of Ray or of how rows
were read. It runs before anything is committed.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from app.config import Config
from app.contracts.times import micros_in
from app.data.files import DELIVERY, Piece
from app.data.halting import IngestStopped
from app.data.report import rows_of_earlier, write_report
from app.data.reporting import Arrived, make_report
from app.data.tables import Tables
from app.data.tally import Tally

logger = logging.getLogger(__name__)


def admit(
    config: Config,
    tables: Tables,
    rows: Arrived,
    outcomes: Arrived,
    at: datetime,
    until: datetime | None = None,
) -> Path | None:
    """Write the report on an ingest and return its path; None when there is nothing to tell.

    There is nothing to tell when nothing new was delivered and all is well. Raises IngestStopped,
    with the reasons and the report's path, when the policy says so: then the caller commits
    nothing.
    """
    policy, folder = config.intake, config.ingest_reports_path
    report = make_report(
        config,
        rows,
        outcomes,
        at,
        until=until,
        newest_before=_newest(tables) if policy.max_age_hours is not None else None,
        earlier=rows_of_earlier(folder, policy.num_earlier),
    )
    if report.verdict.action == "pass" and not rows.pending and not outcomes.pending:
        return None
    path = write_report(report, folder)
    for finding in report.verdict.findings:
        logger.warning("ingest of %s: %s", config.name, finding.reason)
    if report.verdict.action == "stop":
        raise IngestStopped(report.verdict, path)
    return path


def arrived(
    tally: Tally, num_in: Mapping[str, int], pending: Sequence[str], pieces: Sequence[Piece] = ()
) -> Arrived:
    """Put together what an ingest took up: a tally, and what its files are called and left out."""
    return Arrived(
        tally=tally,
        num_in=num_in,
        pending=pending,
        files={piece.digest: Path(piece.path).name for piece in pieces},
        left_out={piece.digest: piece.left_out for piece in pieces},
    )


def count_deliveries(rows: pa.Table) -> Counter[str]:
    """Count rows by the delivery that they came in."""
    counted = pc.value_counts(rows[DELIVERY]).to_pylist()
    return Counter({item["values"]: item["counts"] for item in counted})


def _newest(tables: Tables) -> int | None:
    """Return the newest time asked of the rows that are in, in microseconds since 1970."""
    times = tables.read("events", columns=["prediction_time"])["prediction_time"]
    newest: int | None = pc.max(micros_in(times)).as_py()
    return newest

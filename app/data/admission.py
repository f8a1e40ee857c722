"""Let an ingest through or stop it, and leave its report behind either way.

Knows tallies, the policy, the tables and the folder of reports; knows nothing of Ray or of how rows
were read. Where the policy may stop an ingest, it runs before anything is committed.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

import pyarrow as pa

from app.config import Config
from app.contracts.rows import TIMESTAMP, Column, Contract
from app.data.deliveries import Delivery
from app.data.freshness import newest_asked
from app.data.halting import IngestStopped
from app.data.intake import REFUSED, TIME
from app.data.pieces import DELIVERY, Piece
from app.data.report import note_readmitted, rows_of_earlier, write_report
from app.data.reporting import Arrived, make_report
from app.data.settling import Settled
from app.data.silence import quiet_report
from app.data.sql_pieces import SqlPiece
from app.data.stagedfiles import StagedFiles
from app.data.staging import Staged
from app.data.tables import Tables
from app.data.tally import Tally
from app.data.tally_json import tally_from_json

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
        newest_before=newest_asked(tables) if policy.max_age_hours is not None else None,
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


def tell_readmitted(
    config: Config, tables: Tables, report: Path | None, number: int, at: datetime
) -> Path | None:
    """Tell how many earlier outcomes found their rows: in an ingest's report, or in one of its own.

    Returns the report's path; nothing is written of none.
    """
    if number and report is None:
        report = write_report(
            quiet_report(config, newest_asked(tables), at), config.ingest_reports_path
        )
    return note_readmitted(report, number) if number and report else report


@dataclass
class Taken:
    """What one ingest takes up of rows, or of outcomes, added up delivery by delivery.

    Values are summed up for all columns of the contract, or for those given.
    """

    contract: Contract
    columns: Sequence[Column] | None = None
    tally: Tally = field(default_factory=Tally)
    num_in: Counter[str] = field(default_factory=Counter)
    files: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, delivery: Delivery, settled: Settled) -> None:
        """Count a settled delivery: its blocks as they were counted, or what is left of them."""
        for block in settled.blocks:
            if block.tally:
                counted = tally_from_json(Path(block.tally).read_bytes())
            else:
                counted = Tally.merge_all(self._counted(block, settled.files))
            self.tally = self.tally.merge(counted)
        self.num_in[delivery.digest] += settled.num_in
        self.files[delivery.digest] = PurePosixPath(delivery.name).name
        # Of JSON lines it is known only now which columns some had.
        known = {n for piece in delivery.pieces if not _by_row(piece) for n in piece.left_out}
        self.left_out[delivery.digest] = tuple(sorted(known | settled.left_out))

    def arrived(self) -> Arrived:
        """Put together what a report is about."""
        return Arrived(self.tally, self.num_in, list(self.num_in), self.files, self.left_out)

    def _counted(self, block: Staged, files: StagedFiles) -> Iterator[Tally]:
        if block.accepted:
            yield self._accepted(files.read(block.accepted))
        for path in block.refused:
            yield self._refused(files.read(path))

    def _accepted(self, rows: pa.Table) -> Tally:
        return Tally.collect(rows, REFUSED.empty_table(), self.contract, self.columns)

    def _refused(self, rows: pa.Table) -> Tally:
        places = [pa.field(DELIVERY, pa.string()), pa.field(TIME, TIMESTAMP)]
        nothing = pa.schema([*self.contract.schema, *places]).empty_table()
        return Tally.collect(nothing, rows, self.contract, self.columns)


def _by_row(piece: Piece | SqlPiece) -> bool:
    return isinstance(piece, Piece) and piece.kind == "jsonl"

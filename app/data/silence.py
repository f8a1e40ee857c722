"""Notice when the feed of a follower falls silent, and tell it: once, until it has recovered.

A follower looks every few seconds, and most looks find nothing new; that is no news until the
newest row that is in has grown too old. Whatever a look comes to, this is asked after it: also when
the store is away, or when what is delivered was refused. Knows the tables, the policy and the
clock as a parameter; knows nothing of sources.
"""

import logging
from datetime import datetime
from pathlib import Path

from app.config import Config
from app.data.freshness import is_stale, newest_asked, turn
from app.data.halting import IngestStopped
from app.data.report import IngestReport, write_report
from app.data.reporting import Arrived, make_report
from app.data.tables import Tables
from app.data.tally import Tally
from app.data.watching import Watch

logger = logging.getLogger(__name__)


def notice_silence(
    config: Config, tables: Tables, watch: Watch, at: datetime, *, is_told: bool
) -> Path | None:
    """Say that the newest row became too old, or is fresh again; returns the path of a report.

    Nothing is said, and no report written, when the report on what came `is_told` it already, when
    it was said before, or by a single ingest, whose policy is asked anyway.
    """
    if not watch.looks.following or config.intake.max_age_hours is None:
        return None
    newest = _newest(tables, watch)
    stale = is_stale(newest, at, config.intake)
    turned, watch.stale = turn(watch.stale, stale), stale
    if turned == "fresh":
        logger.warning("ingest of %s: its newest row is fresh again", config.name)
    if turned != "stale" or is_told:
        return None
    report = quiet_report(config, newest, at)
    for finding in report.verdict.findings:
        logger.warning("ingest of %s: %s", config.name, finding.reason)
    return write_report(report, config.ingest_reports_path)


def told_by(stopped: Exception) -> bool:
    """Tell whether an ingest that was stopped has told of its newest row's age."""
    findings = stopped.verdict.findings if isinstance(stopped, IngestStopped) else ()
    return any(finding.about == "freshness" for finding in findings)


def quiet_report(config: Config, newest: int | None, at: datetime) -> IngestReport:
    """Make the report on a look that found nothing new: how old the newest row is, no more.

    It stops nobody, whatever the policy says of stale rows: nothing came that could be kept out.
    """
    policy = config.intake.model_copy(update={"stale": "warn"})
    quiet = config.model_copy(update={"intake": policy})
    nothing = Arrived(Tally(), {}, [])
    return make_report(quiet, nothing, nothing, at, newest_before=newest)


def _newest(tables: Tables, watch: Watch) -> int | None:
    """Find the newest time asked; where no row was appended it is that of the last look."""
    version = tables.version("events")
    if watch.newest is None or watch.newest[0] != version:
        watch.newest = version, newest_asked(tables)
    return watch.newest[1]

"""Bring a model's source into its tables, or show what a snapshot of them holds.

Running it again adds nothing.
"""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.config import Config, load_config
from app.console.ingest import page_of, write_ingest_page
from app.console.snapshot import render_snapshot
from app.data.halting import IngestStopped
from app.data.preprocess import IngestResult, ingest
from app.data.tables import open_tables
from app.governance.contents import SnapshotContents, describe_snapshot, find_snapshot
from app.ledger.clock import read_clock
from app.ledger.database import open_ledger
from app.session import session
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors


def main(
    config: ConfigFile,
    until: Annotated[
        datetime | None,
        typer.Option(
            help="Rows asked before, outcomes known by this time; UTC unless it has a zone."
        ),
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            metavar="SNAPSHOT",
            help="Bring nothing in; print what is in a snapshot, named by the beginning of its "
            "digest or of a version that learned from it.",
        ),
    ] = None,
    set_: Overrides = None,
) -> None:
    """Read, validate, pseudonymise and commit rows and outcomes; print what became of them.

    The report is written as JSON and as a page, also when the policy of `intake` stops the ingest.
    """
    with user_errors():
        settings = load_config(config, set_ or [])
        if show is not None:
            contents = describe(settings, show)
            Console(stderr=True).print(render_snapshot(contents))
            report(contents)
            return
        with session(settings):
            result = run(settings, until)
        page = page_of(Path(result.report)) if result.report else None
        typer.secho(f"report: {result.report or 'none, nothing was delivered'}", err=True)
        typer.secho(f"page: {page or 'none'}", err=True)
        report({**result.model_dump(mode="json"), "page": str(page) if page else None})


def describe(config: Config, snapshot: str) -> SnapshotContents:
    """Say what is in a snapshot, and whether it is intact, reduced by erasures, or altered."""
    tables = open_tables(config)
    with closing(open_ledger(config.ledger_url)) as ledger:
        dataset = find_snapshot(config, ledger, snapshot)
        return describe_snapshot(config, ledger, tables, dataset)


def run(config: Config, until: datetime | None = None) -> IngestResult:
    """Ingest in a session that is open already; rows arrive at the time of the model's clock.

    The page of the report is written beside it; IngestStopped goes on after that.
    """
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    clock = read_clock(open_ledger(config.ledger_url), config, datetime.now(UTC))
    tables = open_tables(config)
    try:
        result = ingest(config, tables, until, at=clock.now)
    except IngestStopped as stopped:
        typer.secho(f"page: {write_ingest_page(stopped.report)}", err=True)
        raise
    if result.report:
        write_ingest_page(Path(result.report))
    return result


if __name__ == "__main__":
    typer.run(main)

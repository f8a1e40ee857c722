"""Bring a model's source into its tables, or show what a snapshot of them holds.

Running it again adds nothing.
"""

from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from app.config import Config, load_config
from app.console.snapshot import render_snapshot
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
    """Read, validate, pseudonymise and commit rows and outcomes; print what became of them."""
    with user_errors():
        settings = load_config(config, set_ or [])
        if show is not None:
            contents = describe(settings, show)
            Console(stderr=True).print(render_snapshot(contents))
            report(contents)
            return
        with session(settings):
            report(run(settings, until))


def describe(config: Config, snapshot: str) -> SnapshotContents:
    """Say what is in a snapshot, and whether it is intact, reduced by erasures, or altered."""
    tables = open_tables(config)
    with closing(open_ledger(config.ledger_url)) as ledger:
        dataset = find_snapshot(config, ledger, snapshot)
        return describe_snapshot(config, ledger, tables, dataset)


def run(config: Config, until: datetime | None = None) -> IngestResult:
    """Ingest in a session that is open already; rows arrive at the time of the model's clock."""
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    clock = read_clock(open_ledger(config.ledger_url), config, datetime.now(UTC))
    return ingest(config, open_tables(config), until, at=clock.now)


if __name__ == "__main__":
    typer.run(main)

"""Bring a model's source into its tables. Running it again adds nothing."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from app.config import Config, load_config
from app.data.ingestion import IngestResult
from app.data.preprocess import ingest
from app.data.tables import Tables
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
    set_: Overrides = None,
) -> None:
    """Read, validate, pseudonymise and commit rows and outcomes; print what became of them."""
    with user_errors():
        settings = load_config(config, set_ or [])
        with session(settings):
            report(run(settings, until))


def run(config: Config, until: datetime | None = None) -> IngestResult:
    """Ingest in a session that is open already; rows arrive at the time of the model's clock."""
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    clock = read_clock(open_ledger(config.ledger_url), config, datetime.now(UTC))
    return ingest(config, Tables(config.tables_path, config.contract), until, at=clock.now)


if __name__ == "__main__":
    typer.run(main)

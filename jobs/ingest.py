"""Bring a model's source into its tables. Running it again adds nothing; --follow stays at it."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from app.config import Config, load_config
from app.console.intake import IngestBar, IngestTeller
from app.data.ingestion import IngestResult, together
from app.data.looks import Looks
from app.data.preprocess import Watch, ingest
from app.data.tables import Tables
from app.ledger.clock import read_clock
from app.ledger.database import open_ledger
from app.session import session
from jobs.options import ConfigFile, Overrides
from jobs.outcome import Ending, report, user_errors


def main(
    config: ConfigFile,
    until: Annotated[
        datetime | None,
        typer.Option(
            help="Rows asked before, outcomes known by this time; UTC unless it has a zone."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, help="--follow: look again after so many seconds.")
    ] = 10.0,
    set_: Overrides = None,
) -> None:
    """Read, validate, pseudonymise and commit rows and outcomes; print what became of them."""
    console = Console(stderr=True)
    with user_errors():
        settings = load_config(config, set_ or [])
        if follow and until:
            raise ValueError("--follow takes what comes, --until an end: give one of them")
        with session(settings):
            if follow:
                report(stay_at_it(settings, every, console))
                return
            with IngestBar(console) as bar:
                report(run(settings, until, watch=Watch(tell=bar.show)))


def run(
    config: Config, until: datetime | None = None, *, watch: Watch | None = None
) -> IngestResult:
    """Ingest in a session that is open already; rows arrive at the time of the model's clock."""
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    ledger = open_ledger(config.ledger_url)
    try:
        clock = read_clock(ledger, config, datetime.now(UTC))
    finally:
        ledger.close()
    tables = Tables(config.tables_path, config.contract)
    return ingest(config, tables, until, at=clock.now, watch=watch)


def stay_at_it(config: Config, every: float, console: Console) -> IngestResult:
    """Ingest again and again; Ctrl-C ends it after the delivery at hand, a second one at once."""
    console.print(f"following {config.name}'s source; press Ctrl-C to end", highlight=False)
    teller, in_all = IngestTeller(console), None
    looks = Looks(following=True, settle_seconds=config.source.settle_seconds)
    with Ending() as ending, IngestBar(console) as bar:
        watch = Watch(tell=bar.show, stop=ending.is_asked, looks=looks)
        while True:
            now = datetime.now(UTC)
            looks.begin(now.timestamp())
            result = run(config, watch=watch)
            teller.tell(result, now)
            in_all = together(in_all, result)
            if ending.wait(every):
                return in_all


if __name__ == "__main__":
    typer.run(main)

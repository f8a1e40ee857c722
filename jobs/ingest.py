"""Bring a model's source into its tables, or show what a snapshot of them holds.

Running it again adds nothing; --follow stays at it.
"""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.config import Config, load_config
from app.console.ingest import page_of, write_ingest_page
from app.console.intake import IngestBar, IngestTeller
from app.console.snapshot import render_snapshot
from app.data.halting import IngestStopped
from app.data.ingestion import IngestResult, together, total
from app.data.looks import Looks
from app.data.pieces import SourceError
from app.data.preprocess import ingest, versions_of
from app.data.staging import Busy
from app.data.tables import open_tables
from app.data.watching import Watch
from app.governance.contents import SnapshotContents, describe_snapshot, find_snapshot
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
    console = Console(stderr=True)
    with user_errors():
        settings = load_config(config, set_ or [])
        if show is not None:
            contents = describe(settings, show)
            console.print(render_snapshot(contents))
            report(contents)
            return
        if follow and until:
            raise ValueError("--follow takes what comes, --until an end: give one of them")
        with session(settings, background=True):
            result = (
                stay_at_it(settings, every, console) if follow else once(settings, until, console)
            )
        tell(result)


def once(config: Config, until: datetime | None, console: Console) -> IngestResult:
    """Ingest once, with a bar on a terminal."""
    with IngestBar(console) as bar:
        return run(config, until, watch=Watch(tell=bar.show))


def tell(result: IngestResult) -> None:
    """Say where the report is, and print the record."""
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


def run(
    config: Config, until: datetime | None = None, *, watch: Watch | None = None
) -> IngestResult:
    """Ingest in a session that is open already; rows arrive at the time of the model's clock.

    The page of the report is written beside it; IngestStopped goes on after that.
    """
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    with closing(open_ledger(config.ledger_url)) as ledger:
        clock = read_clock(ledger, config, datetime.now(UTC))
    try:
        result = ingest(config, open_tables(config), until, at=clock.now, watch=watch)
    except IngestStopped as stopped:
        typer.secho(f"page: {write_ingest_page(stopped.report)}", err=True)
        raise
    finally:
        if watch is not None and watch.silence is not None:
            write_ingest_page(watch.silence)
    if result.report:
        write_ingest_page(Path(result.report))
    return result


def stay_at_it(config: Config, every: float, console: Console) -> IngestResult:
    """Ingest again and again; Ctrl-C ends it after the delivery at hand, a second one at once.

    What the policy of `intake` stops is told, and tried again when something else is delivered.
    """
    console.print(f"following {config.name}'s source; press Ctrl-C to end", highlight=False)
    teller, in_all = IngestTeller(console), None
    looks = Looks(following=True, settle_seconds=config.source.settle_seconds)
    with Ending() as ending, IngestBar(console) as bar:
        watch = Watch(tell=bar.show, stop=ending.is_asked, looks=looks)
        while True:
            now = datetime.now(UTC)
            looks.begin(now.timestamp())
            try:
                result = run(config, watch=watch)
                teller.tell(result, now)
                in_all = together(in_all, result)
            except IngestStopped as stopped:
                typer.secho(f"stopped: {stopped}", fg=typer.colors.RED, err=True)
            except (SourceError, Busy) as error:
                # A store that is away, or another ingest, may be well at the next look.
                teller.complain(str(error), now)
            if ending.wait(every):
                return in_all or total([], versions_of(open_tables(config)))


if __name__ == "__main__":
    typer.run(main)

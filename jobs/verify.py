"""Check a version again: its bytes, its records, its rows, and what is different here and now."""

from contextlib import closing
from typing import Annotated

import typer
from rich.console import Console

from app.config import load_config
from app.console.repetition import render_checks
from app.data.tables import open_tables
from app.governance.checking import Place, check_version, find_checked
from app.ledger.database import open_ledger
from app.training.circumstances import circumstances_here
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors


def main(
    config: ConfigFile,
    run: Annotated[str | None, typer.Option(help="The version that this run made.")] = None,
    version: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Its digest's beginning; default: the champion's."),
    ] = None,
    set_: Overrides = None,
) -> None:
    """Verify a version and name what differs.

    Its files must be those of its digest, the run's folder must agree with the registry, and its
    snapshot must be intact or reduced by erasures alone: else the exit code is 1. Other code,
    settings, packages or machines than it was made with are named with both values.
    """
    with user_errors():
        settings = load_config(config, set_ or [])
        if run and version:
            raise ValueError("--run and --version both name one version: give one of them")
        with closing(open_ledger(settings.ledger_url)) as ledger:
            found, registered = find_checked(settings, ledger, run=run, version=version)
            place = Place(settings, ledger, open_tables(settings), circumstances_here())
            checked = check_version(place, found, registered=registered)
        Console(stderr=True).print(render_checks(checked))
        report(checked)
        if not checked.verified:
            raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

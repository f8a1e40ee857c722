"""Score files of rows with the champion, or with a version of your choice."""

from pathlib import Path
from typing import Annotated

import typer

from app.config import load_config
from app.serving.batch import score
from app.session import session
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors


def main(
    config: ConfigFile,
    rows: Annotated[str, typer.Option(help="Parquet or .csv: a file, a folder or a glob.")],
    into: Annotated[Path, typer.Option(help="Folder for the scores.")],
    version: Annotated[
        str | None,
        typer.Option(
            help="Beginning of a version's digest; default: the champion, or the latest where a "
            "task has no champion."
        ),
    ] = None,
    set_: Overrides = None,
) -> None:
    """Give every row a prediction, or the reasons why it has none; run again to go on."""
    with user_errors():
        settings = load_config(config, set_ or [])
        with session(settings, background=True):
            report(score(settings, rows, into.absolute(), version))


if __name__ == "__main__":
    typer.run(main)

"""Score the rows of any source with the champion, or with a version of your choice.

Running it again scores what is not scored yet.
"""

from typing import Annotated

import typer
from rich.console import Console

from app.config import load_config
from app.console.intake import IngestBar
from app.serving.batch import score
from app.serving.scoredsource import KINDS, scoring_of
from app.serving.scoresinks import SINKS, open_sink
from app.session import session
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors


def main(
    config: ConfigFile,
    into: Annotated[
        str, typer.Option(help="Where scores are kept: a folder or a URI; sink sql: a table.")
    ],
    rows: Annotated[
        str | None,
        typer.Option(
            help="A file, a folder, a glob, a URI, the folder of a Delta table; kind sql: a table "
            "or a query of the database of `source`. Default: the rows of `source`."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help=f"Of the rows: {', '.join(KINDS)}. Default: by name and content."),
    ] = None,
    sink: Annotated[
        str | None,
        typer.Option(
            help=f"Of the scores: {', '.join(SINKS)}. Default: delta where a table is, else "
            "parquet."
        ),
    ] = None,
    url_variable: Annotated[
        str | None,
        typer.Option(help="sink sql: the environment variable that holds the SQLAlchemy URL."),
    ] = None,
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
        settings = scoring_of(load_config(config, set_ or []), rows, kind)
        kept = open_sink(into, sink, url_variable)
        bar = IngestBar(Console(stderr=True), "score")
        with session(settings, background=True), bar:
            report(score(settings, kept, version, tell=bar.show))


if __name__ == "__main__":
    typer.run(main)

"""Encode files of rows for whoever trains or scores outside: checked, imputed, scaled, coded."""

from pathlib import Path
from typing import Annotated

import typer

from app.config import load_config
from app.data.encoding import encode
from app.session import session
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors


def main(
    config: ConfigFile,
    rows: Annotated[str, typer.Option(help="Parquet or .csv: a file, a folder or a glob.")],
    into: Annotated[Path, typer.Option(help="Folder for encoded and for refused rows.")],
    encoder: Annotated[
        Path | None, typer.Option(help="A model's encoder.json; absent: one is fitted on the rows.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Tasks at a time, a CPU each.")] = 2,
    set_: Overrides = None,
) -> None:
    """Write every row encoded, or the reasons why it is refused; run again to go on."""
    with user_errors():
        settings = load_config(config, set_ or [])
        with session(settings, background=True):
            report(encode(settings, rows, into.absolute(), encoder, workers))


if __name__ == "__main__":
    typer.run(main)

"""Serve a model over HTTP: its champion now, and every later one without a restart."""

from pathlib import Path
from typing import Annotated

import typer

from app.config import Config, load_config
from app.serving.application import deploy
from app.session import session
from jobs.outcome import report, stay, user_errors


def main(
    config: Annotated[Path, typer.Option(help="The model's YAML file.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override: section.key=value.")
    ] = None,
) -> None:
    """Start the endpoint on the cluster of RAY_ADDRESS, or on one of its own until Ctrl-C."""
    with user_errors():
        settings = load_config(config, set_ or [])
        with session(settings) as cluster:
            report({"model": settings.name, "url": run(settings)})
            if cluster.started:
                stay("the endpoint")


def run(config: Config) -> str:
    """Start the endpoint in a session that is open already, and return its URL."""
    return deploy(config)


if __name__ == "__main__":
    typer.run(main)

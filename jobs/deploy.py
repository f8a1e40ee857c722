"""Serve a model over HTTP: its champion now, and every later one without a restart."""

import typer

from app.config import Config, load_config
from app.contracts.targets import require_binary
from app.serving.application import deploy
from app.session import session
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, stay, user_errors


def main(
    config: ConfigFile,
    set_: Overrides = None,
) -> None:
    """Start the endpoint on the cluster of RAY_ADDRESS, or on one of its own until Ctrl-C."""
    with user_errors():
        settings = load_config(config, set_ or [])
        require_binary(settings.contract, "serving")
        with session(settings) as cluster:
            report({"model": settings.name, "url": run(settings)})
            if cluster.started:
                stay("the endpoint")


def run(config: Config) -> str:
    """Start the endpoint in a session that is open already, and return its URL."""
    return deploy(config)


if __name__ == "__main__":
    typer.run(main)

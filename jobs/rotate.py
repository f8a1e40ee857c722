"""Bring a model's sealed data under a new master key. Cut off, it may simply be run again."""

import typer

from app.config import Config, load_config
from app.data.rotation import Rotated, rotate
from app.data.tables import open_tables
from app.security.keyring import open_keyring
from jobs.options import DEFAULT_CONFIG, ConfigFile, Overrides
from jobs.outcome import report, user_errors


def main(config: ConfigFile = DEFAULT_CONFIG, set_: Overrides = None) -> None:
    """Make a new master key, write every data file anew under it, and destroy the old key."""
    with user_errors():
        report(run(load_config(config, set_ or [])))


def run(config: Config) -> Rotated:
    """Rotate the keys of one model; what serves, watches or trains goes on meanwhile."""
    return rotate(open_tables(config), open_keyring(config))


if __name__ == "__main__":
    typer.run(main)

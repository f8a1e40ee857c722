"""Bring a model's sealed data under a new master key. Cut off, it may simply be run again."""

import typer

from app.config import Config, load_config
from app.data.rotation import Rotated, rotate
from app.data.tables import open_tables
from app.security.keyring import open_keyring
from app.serving.resealing import places_of
from jobs.options import DEFAULT_CONFIG, ConfigFile, Overrides
from jobs.outcome import report, user_errors


def main(config: ConfigFile = DEFAULT_CONFIG, set_: Overrides = None) -> None:
    """Make a new master key, bring all that is sealed under it, and destroy the old key.

    Every data file is written anew and the online store gets a new data key. What an ingest has
    staged and what replicas have captured keeps its key until it is in the tables: then the old key
    is kept, the record says for what, and running this again destroys it.
    """
    with user_errors():
        report(run(load_config(config, set_ or [])))


def run(config: Config) -> Rotated:
    """Rotate the keys of one model; what serves, watches or trains goes on meanwhile."""
    keyring = open_keyring(config)
    return rotate(open_tables(config), keyring, places_of(config, keyring))


if __name__ == "__main__":
    typer.run(main)

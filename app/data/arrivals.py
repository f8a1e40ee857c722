"""Let rows arrive only while it is known who was erased; let an erasure wait for those under way.

Knows locks, the ledger's tombstones and a workspace; knows nothing of rows. Whoever brings rows in
holds this from the moment it reads the tombstones until its rows are committed. An erasure sets its
tombstones first and then waits once for those who had read the old ones: from then on nobody can
bring its rows back.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from app.config import Config
from app.data.forgetting import ids_of_others
from app.data.locks import exclusive, shared
from app.data.tables import Tables
from app.ledger.database import Ledger, open_ledger
from app.ledger.erasures import note_rows, read_tombstones
from app.security.secrets import pseudonym_key
from app.security.tombstones import Tombstones


@contextlib.contextmanager
def arriving(config: Config, read: Callable[[], Tombstones] | None = None) -> Iterator[Tombstones]:
    """Yield the tombstones that stand; until the end no erasure goes past those who bring rows in.

    Not to be nested by one thread. `read` reads the tombstones; by default the ledger is opened.
    """
    with shared(_gate(config)):
        yield read() if read else standing_tombstones(config)


class Arrival(NamedTuple):
    """Who was erased, and where to note the ids of captured rows that are dropped for it."""

    erased: Tombstones
    note: Callable[[frozenset[str]], None]


@contextlib.contextmanager
def captured_arriving(
    config: Config, ledger: Ledger, tables: Tables, read: Callable[[], Tombstones]
) -> Iterator[Arrival]:
    """Let captured rows arrive, as `arriving` does; an outcome may follow a row that is dropped."""

    def note(row_ids: frozenset[str]) -> None:
        theirs = row_ids - ids_of_others(tables, erased, row_ids)
        note_rows(ledger, config.name, (erased.row(row_id) for row_id in theirs))

    with arriving(config, read) as erased:
        yield Arrival(erased, note)


def standing_tombstones(config: Config) -> Tombstones:
    """Read a workspace's tombstones as they stand now."""
    with contextlib.closing(open_ledger(config.ledger_url)) as ledger:
        return read_tombstones(ledger, config.name, Tombstones(pseudonym_key(config)))


def await_arrivals(config: Config) -> None:
    """Wait for all who read tombstones before this call and bring in rows still."""
    with exclusive(_gate(config)):
        pass


def _gate(config: Config) -> Path:
    config.tables_path.mkdir(parents=True, exist_ok=True)
    return config.tables_path / "arrivals"

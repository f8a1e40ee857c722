"""Let rows arrive only while it is known who was erased; let an erasure wait for those under way.

Knows locks, the ledger's tombstones and a workspace; knows nothing of rows. Whoever brings rows in
holds this from the moment it reads the tombstones until its rows are committed. An erasure sets its
tombstones first and then waits once for those who had read the old ones: from then on nobody can
bring its rows back.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from app.config import Config
from app.data.locks import exclusive, shared
from app.ledger.database import open_ledger
from app.ledger.erasures import read_tombstones
from app.security.secrets import pseudonym_key
from app.security.tombstones import Tombstones


@contextlib.contextmanager
def arriving(config: Config, read: Callable[[], Tombstones] | None = None) -> Iterator[Tombstones]:
    """Yield the tombstones that stand; until the end no erasure goes past those who bring rows in.

    Not to be nested by one thread. `read` reads the tombstones; by default the ledger is opened.
    """
    with shared(_gate(config)):
        yield read() if read else standing_tombstones(config)


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

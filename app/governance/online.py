"""How the online store forgets: the facts of a subject and their share in the values of others.

The same three methods as the stores of rows. Knows the model's SQLite file and those of former
declarations; knows nothing of the order in which stores are asked or of receipts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from app.config import Config
from app.data.forgetting import identity_columns
from app.data.online import OnlineStore
from app.data.sealedstore import NotItsKey, is_sealed, texts_in
from app.governance.needles import Needles
from app.security.keyring import open_keyring
from app.security.tombstones import Tombstones
from app.serving.upkeep import online_path, open_online, upkeep_lock

PORTION = 10_000


class WindowStore:
    """The window features that are kept up to date for serving."""

    name = "online"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._path = online_path(config)
        self._keyring = open_keyring(config)

    def count(self, erased: Tombstones) -> int:
        """Count rows and names of subjects, and files of former declarations that name some."""
        found = len(self._former(Needles(erased)))
        with self._opened() as store:
            if store is not None:
                named, row_ids = self._erased_in(store, erased)
                found += len(row_ids) + sum(map(len, named.values()))
        return found

    def forget(self, erased: Tombstones) -> None:
        """Take facts back out of all sums; delete files of former declarations that name some.

        Whoever keeps the store up waits, and reads the tables as they are now. Raises StoreBusy.
        """
        for path in self._former(Needles(erased)):
            path.unlink(missing_ok=True)
        with self._opened() as store:
            if store is None:
                return
            with upkeep_lock(self._path, wait=True):
                store.forget(*self._erased_in(store, erased))

    def remains(self, needles: Needles) -> list[str]:
        """Look into the file again, as rows and as bytes."""
        return [self.name] if self.count(needles.erased) or self._holds(needles) else []

    def _erased_in(
        self, store: OnlineStore, erased: Tombstones
    ) -> tuple[dict[str, set[str]], set[str]]:
        columns = identity_columns(self._config.contract)
        named = {name: set(filter(erased.is_subject, store.names(name))) for name in columns}
        return named, set(filter(erased.is_row, store.row_ids()))

    @contextmanager
    def _opened(self) -> Iterator[OnlineStore | None]:
        """Open the file if it is there; looking makes none."""
        store = open_online(self._config) if self._path.exists() else None
        try:
            yield store
        finally:
            if store is not None:
                store.close()

    def _former(self, needles: Needles) -> list[Path]:
        """List all files of former declarations of which one names somebody."""
        files = [path for path in self._files() if _definition(path) != _definition(self._path)]
        naming = {_definition(path) for path in files if self._is_named_in(path, needles)}
        return [path for path in files if _definition(path) in naming]

    def _holds(self, needles: Needles) -> bool:
        return any(self._is_named_in(path, needles) for path in self._files())

    def _files(self) -> list[Path]:
        return sorted(path for path in self._path.parent.glob("*") if path.is_file())

    def _is_named_in(self, path: Path, needles: Needles) -> bool:
        """Look into a file's bytes, or into every text of a sealed one."""
        try:
            if path.suffix != self._path.suffix or not is_sealed(path):
                return needles.are_in_file(path)
            return any(map(needles.are_in, _portions(texts_in(path, self._keyring))))
        except FileNotFoundError:
            # Removed meanwhile by whoever keeps the store up.
            return False
        except NotItsKey:
            # Nobody can say whom it names, and it can be filled again: it goes.
            return True


def _portions(texts: Iterator[str]) -> Iterator[bytes]:
    """Put texts together, so many at a time that a search is quick and memory stays flat."""
    while portion := list(islice(texts, PORTION)):
        yield "\n".join(portion).encode(errors="surrogatepass")


def _definition(path: Path) -> str:
    """Give what all files of one declaration, the log beside the database too, are named by."""
    return path.name.partition(".")[0]

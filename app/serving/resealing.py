"""What a change of keys meets outside the tables: staged files, captured rows, the online store.

Knows where they lie and which keys they name; knows nothing of how tables are sealed. The online
store is sealed anew. Staged files and captured rows are on their way into the tables: the older key
stays until they are there, and is retired by the next change.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from app.config import Config
from app.data.locks import locked
from app.data.rotation import Needed, Place
from app.data.sealedstore import NotItsKey, change_key, masters_of, opening
from app.data.sealing import key_of
from app.data.staging import STAGING, Busy, nothing_staged
from app.data.storefile import BUSY_ERRORS, BUSY_SECONDS
from app.security.keyring import Keyring
from app.serving.upkeep import online_path, upkeep_lock

logger = logging.getLogger(__name__)


def places_of(config: Config, keyring: Keyring) -> tuple[Place, ...]:
    """List all places outside the tables where something of a workspace is sealed."""
    sealed_windows = config.encryption.at_rest and config.contract.windows
    return (
        StagedRows(config.workspace, keyring),
        CapturedRows(config.spool_path),
        *([StoreOfWindows(online_path(config), keyring)] if sealed_windows else []),
    )


class StagedRows:
    """The files of an ingest at work; those of a killed one are removed."""

    def __init__(self, workspace: Path, keyring: Keyring) -> None:
        self._workspace, self._keyring = workspace, keyring

    def reseal(self) -> int:
        """Do nothing: they live as long as their ingest."""
        return 0

    @contextlib.contextmanager
    def needing(self) -> Iterator[Needed]:
        """Let no ingest begin; one at work may use any key that there is."""
        with contextlib.ExitStack() as held:
            needed: Needed = {}
            try:
                held.enter_context(nothing_staged(self._workspace))
            except Busy:
                needed = {key: [f"{STAGING}: an ingest is at work"] for key in self._keyring.ids()}
            yield needed


class CapturedRows:
    """The segments of all spools, of living replicas and of dead ones."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def reseal(self) -> int:
        """Do nothing: whole segments are shipped in seconds, damaged ones are for people."""
        return 0

    @contextlib.contextmanager
    def needing(self) -> Iterator[Needed]:
        """Let no segment begin, and read off their names which keys those that are there need."""
        if not self._root.is_dir():
            yield {}
            return
        with locked(self._root / "lock"):
            needed: Needed = {}
            for path in sorted(self._root.glob("*/*.sealed-*")):
                key = key_of(path.name)
                if key is not None:
                    needed.setdefault(key, []).append(f"spool/{path.relative_to(self._root)}")
            yield needed


class StoreOfWindows:
    """The online store of the windows that are declared now; it can be filled again."""

    def __init__(self, path: Path, keyring: Keyring) -> None:
        self._path, self._keyring = path, keyring

    def reseal(self) -> int:
        """Give it a new data key, once whoever fills it or erases in it is done."""
        if not self._path.exists():
            return 0
        try:
            with upkeep_lock(self._path, wait=True):
                return int(change_key(self._path, self._keyring, BUSY_SECONDS))
        except (NotItsKey, *BUSY_ERRORS) as error:
            logger.warning("%s: its key is not changed now (%s)", self._path, error)
            return 0

    @contextlib.contextmanager
    def needing(self) -> Iterator[Needed]:
        """Let nobody open it meanwhile, who might give a new one the older key."""
        if not self._path.parent.is_dir():
            yield {}
            return
        with opening(self._path):
            keys = masters_of(self._path, self._keyring)
            yield {key: [f"online/{self._path.name}"] for key in keys}

"""What an erasure works on: the parts of one workspace, and every store in it.

Knows where things are; knows nothing of steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.config import Config
from app.data.tables import NAMES, Tables
from app.governance.derived import FileStore, MonitorStore, ReportStore
from app.governance.needles import Needles
from app.governance.online import WindowStore
from app.governance.searching import Progress, left_over
from app.governance.stores import SpoolStore, Store, TableStore
from app.ledger.database import Ledger
from app.ledger.erasures import read_tombstones
from app.security.tombstones import Tombstones


def _quietly(what: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Workplace:
    """The parts of one workspace. `empty` are tombstones of nobody, under the workspace's key.

    `further` are stores beside those that every workspace has.
    """

    config: Config
    ledger: Ledger
    tables: Tables
    empty: Tombstones
    further: Sequence[Store] = ()
    progress: Progress = field(default=_quietly)

    @property
    def all_stores(self) -> tuple[Store, ...]:
        """Every place that is asked to forget, in order; the monitor reads what is left then."""
        config = self.config
        return (
            *(TableStore(self.tables, name) for name in NAMES),
            self.spool,
            WindowStore(config),
            FileStore(config),
            ReportStore(config.reports_path),
            *self.further,
            MonitorStore(config, self.ledger),
        )

    @property
    def spool(self) -> SpoolStore:
        """The captured rows, whoever keeps them."""
        return SpoolStore(self.config.spool_path, self.config.contract, self.tables.sealing.keyring)

    def tombstones(self) -> Tombstones:
        """Give all tombstones that stand: what was erased before must be nowhere either."""
        return read_tombstones(self.ledger, self.config.name, self.empty)

    def left_over(self, needles: Needles) -> list[str]:
        """Name every place where something is left."""
        return left_over(
            self.config, self.ledger, self.tables, self.all_stores, needles, self.progress
        )

"""A workspace with people in every store, and an online store that follows its tables."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from app.config import Config
from app.contracts.rows import Contract
from app.contracts.times import micros_of
from app.contracts.windows import Window
from app.data.derived import with_windows
from app.data.online import OnlineStore
from app.data.tables import open_tables
from app.governance.workplace import Workplace
from app.serving.upkeep import Upkeep, open_online
from tests.erasure_world import CONTRACT, NOW, World, make_world

WINDOWS = (
    Window(name="orders", aggregate="count", window_days=300),
    Window(name="carried", aggregate="mean", of="weight", entity="depot", window_days=300),
    Window(name="people", aggregate="distinct", of="customer", entity="depot", window_days=300),
    Window(name="late_share", aggregate="share", of="label", entity="depot", window_days=300),
    Window(name="idle", aggregate="time_since_last"),
)


class Online:
    """A workspace with people in every store, in which windows were declared later."""

    def __init__(
        self, folder: Path, num_subjects: int = 12, rows_each: int = 4, *, sealed: bool = False
    ) -> None:
        self.world = make_world(folder, num_subjects, rows_each, sealed=sealed)
        contract = Contract.model_validate(CONTRACT.model_dump() | {"windows": WINDOWS})
        serving = self.world.config.serving.model_copy(update={"window_reach_days": 400.0})
        changes = {"contract": contract, "serving": serving}
        self.config: Config = self.world.config.model_copy(update=changes)
        self.tables = open_tables(self.config)
        opened = open_online(self.config)
        assert opened is not None
        self.store: OnlineStore = opened
        self.upkeep = Upkeep(self.store, self.tables, lambda: NOW, 60.0)
        assert self.upkeep.tick()
        # A row of which the windows were logged, so that there are files of both shapes.
        rows = self.tables.read("events").slice(0, 1)
        rows = rows.set_column(rows.schema.get_field_index("orders"), "orders", pa.array([1.5]))
        self.tables.append("events", rows)
        self.upkeep.tick()

    @property
    def contract(self) -> Contract:
        return self.config.contract

    @property
    def place(self) -> Workplace:
        world: World = self.world
        return Workplace(self.config, world.ledger, self.tables, world.tombstones)

    def close(self) -> None:
        self.store.close()
        self.world.ledger.close()

    def values(self, at: datetime) -> tuple[pa.Table, pa.Table]:
        """What the store and what history say of everybody at a time."""
        rows = self.tables.read("events").select(["customer", "depot"])
        asked = np.full(rows.num_rows, micros_of(at))
        names = [window.name for window in WINDOWS]
        offline = with_windows(self.tables, self.contract, rows, asked).select(names)
        return self.store.values(rows, asked), offline

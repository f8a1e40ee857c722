"""A workspace whose rows have canaries in every private column, and a search that has no key.

Rows take the product's own way: judged and staged as an ingest does, captured and kept for serving
as a replica does. The search looks at every byte, and at every cell that somebody without a key can
decode: columns of Parquet, cells of SQLite, records of the spool.
"""

import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.config import Config
from app.contracts.rows import TIMESTAMP, Column, Contract
from app.contracts.windows import Window as Feature
from app.data.admitting import Plan, commit_delivery
from app.data.deliveries import Delivery
from app.data.intake import FOREVER, Window
from app.data.judging import Judging, judge_where_read
from app.data.pieces import Rows
from app.data.seen import hash_ids
from app.data.settling import Ids, Settled, settle_rows
from app.data.staging import Staged, staging_folder
from app.data.tables import Tables, open_tables
from app.sections import CaptureConfig, EncryptionConfig, ServingConfig, SourceConfig
from app.security.privacy import Pseudonymiser
from app.security.secrets import SecretError, pseudonym_key
from app.serving.replica import Replica
from app.serving.segments import read_segment

NOON = datetime(2024, 3, 2, 12, tzinfo=UTC)
PLACE, PERSON = "Canary Wharf", "Ada Canary"
WEIGHT = 73194.40625
EVERYTHING = Window(FOREVER, {})
CONTRACT = Contract(
    id="order",
    event_time="due",
    lead_minutes=30,
    entity="customer",
    label="late",
    columns=(
        Column(name="order", kind="identifier", feature=False),
        Column(name="due", kind="time", feature=False),
        Column(name="customer", kind="identifier", privacy="personal", unique=False, feature=False),
        Column(name="place", kind="category", privacy="quasi"),
        Column(name="weight", kind="number", privacy="quasi", minimum=0),
        Column(name="depot", kind="category"),
    ),
    windows=(
        Feature(name="orders", aggregate="count", window_days=30),
        Feature(name="places", aggregate="distinct", of="place", window_days=30),
        Feature(name="carried", aggregate="mean", of="weight", entity="place", window_days=30),
    ),
)


def orders(first: int, *, spoiled: bool = False) -> pa.Table:
    numbers = range(first, first + 3)
    return pa.table(
        {
            "order": [f"order-{n}" for n in numbers],
            "due": pa.array([NOON - timedelta(hours=n) for n in numbers], TIMESTAMP),
            "customer": [PERSON] * 3,
            "place": [PLACE] * 3,
            "weight": [WEIGHT, -WEIGHT if spoiled else WEIGHT, WEIGHT],
            "depot": ["north"] * 3,
        }
    )


class World:
    """A workspace, and what has to do with it as the product does."""

    def __init__(self, folder: Path, *, at_rest: bool) -> None:
        self.config = Config(
            name="orders",
            workspace=folder,
            source=SourceConfig(kind="parquet", events="none.parquet"),
            contract=CONTRACT,
            serving=ServingConfig(
                ship_seconds=60.0, window_reach_days=1.0, capture=CaptureConfig(ship_in="thread")
            ),
            encryption=EncryptionConfig(at_rest=at_rest),
        )
        self.tables: Tables = open_tables(self.config)
        self.replica = Replica(self.config, NOON.timestamp, time.monotonic)
        self.pseudonym = Pseudonymiser(pseudonym_key(self.config)).one(PERSON)

    def canaries(self) -> dict[str, tuple[bytes, ...]]:
        """What must be nowhere, as bytes: texts, and a number as it is written and stored."""
        return {
            "category": (PLACE.encode(),),
            "person": (PERSON.encode(), self.pseudonym.encode()),
            "number": (repr(WEIGHT).encode(), struct.pack("<d", WEIGHT), struct.pack(">d", WEIGHT)),
        }

    def found(self) -> dict[str, list[str]]:
        """The canaries that somebody without a key can see, and in which files."""
        seen: dict[str, list[str]] = {}
        for place, content in readable_below(self.config.workspace):
            for name, forms in self.canaries().items():
                if any(form in content for form in forms):
                    seen.setdefault(name, []).append(place)
        return seen

    def serve(self, first: int) -> None:
        """Keep rows as a replica does before it answers."""
        secret = Pseudonymiser(pseudonym_key(self.config))
        rows = self.tables.complete(
            "events", secret.protect(orders(first), CONTRACT), NOON, "serving"
        )
        self.replica.predictor.spool.append({"events": rows})


def readable_below(root: Path) -> Iterator[tuple[str, bytes]]:
    """Give every file's bytes, and the cells of what can be decoded without a key."""
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.parent.name != "keys"):
        place = path.relative_to(root).as_posix()
        content = path.read_bytes()
        yield place, content
        cells = [*parquet_cells(path), *spooled_cells(path), *sqlite_cells(path, content)]
        yield f"{place}, decoded", "\n".join(map(str, cells)).encode()


def parquet_cells(path: Path) -> Iterator[object]:
    if path.suffix != ".parquet":
        return
    try:
        opened = pq.ParquetFile(path)
    except OSError:
        return
    with opened:
        for name in opened.schema_arrow.names:
            try:
                yield from opened.read(columns=[name])[name].to_pylist()
            except OSError:
                yield name


def spooled_cells(path: Path) -> Iterator[object]:
    if path.suffix not in (".open", ".segment"):
        return
    try:
        tables = read_segment(path).tables
    except SecretError:
        return
    for table in tables.values():
        yield from table.to_pylist()


def sqlite_cells(path: Path, content: bytes) -> Iterator[object]:
    if not content.startswith(b"SQLite format 3\0"):
        return
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            yield from database.execute(f'SELECT * FROM "{table}"').fetchall()


@contextmanager
def staged_half_way(world: World, spoiled: pa.Table) -> Iterator[tuple[Settled, Path]]:
    """Judge and settle a delivery as workers and the driver of an ingest do, and stop there."""
    config = world.config
    with staging_folder(config.workspace) as folder:
        judging = Judging.of(config, frozenset(), folder)
        block = Rows(spoiled, np.arange(spoiled.num_rows), [], "d1").with_places()
        row = judge_where_read(
            block, config=config, erased=frozenset(), folder=folder, window=EVERYTHING
        )
        blocks = [Staged.of_row(each) for each in row.to_pylist()]
        seen = {column.name: Ids() for column in CONTRACT.unique}
        # One of the ids came before, so that files are parted, too.
        seen["order"].before.add(hash_ids(pa.array(["order-2"])))
        secret = judging.pseudonymiser
        yield settle_rows("d1", blocks, CONTRACT, seen, secret, judging.files), folder


def fill(world: World) -> Settled:
    """Bring rows into every place: tables, online store, spool."""
    with staged_half_way(world, orders(0, spoiled=True)) as (settled, _):
        plan = Plan("events", (Delivery("d1", "d1"),), EVERYTHING, {}, ())
        commit_delivery(world.tables, plan, plan.pending[0], settled, NOON, last=True)
    world.serve(3)
    world.replica.ship()
    world.serve(6)
    return settled

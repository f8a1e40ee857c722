"""A workspace with people in every store: tables of several versions, spool, scores, memory.

Rows take the product's own way in: validated, protected, committed. Every subject has several rows,
in several commits; some of them were refused, some predicted, some are only captured so far.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.config import Config
from app.contracts.records import DatasetVersion, Evaluation, Metric, ModelVersion
from app.contracts.rows import TIMESTAMP, Column, Contract
from app.data.sealedstore import is_sealed
from app.data.sealing import open_sealing
from app.data.snapshots import take_snapshot
from app.data.tables import NAMES, Tables, open_tables
from app.data.validation import validate
from app.governance.eraser import Eraser
from app.governance.workplace import Workplace
from app.ledger.database import Ledger, open_ledger
from app.ledger.evidence import record_fold
from app.monitoring.fold import Batch, fold
from app.monitoring.state import FoldState, pack
from app.monitoring.tail import READING_ORDER
from app.registry.store import register_version
from app.sections import EncryptionConfig, ServingConfig, SourceConfig
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key
from app.security.tombstones import Tombstones
from app.serving.capture import Spool
from app.serving.segments import CLOSED, DAMAGED, OPEN, read_segment
from tests.sealed_pages import every_page

START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
COMMITS = 4
# Whatever names a subject or a row: identities, pseudonyms, ids; each of one length.
NAMED = re.compile(rb"Customer Nr \d{4}|person\d{4}@mail\.example|p_[0-9a-f]{16}|order-\d{4}-\d{2}")
CONTRACT = Contract(
    id="order",
    event_time="due",
    lead_minutes=30,
    entity="customer",
    label="late",
    columns=(
        Column(name="order", kind="identifier", feature=False),
        Column(name="due", kind="time"),
        Column(name="customer", kind="identifier", privacy="personal", feature=False),
        Column(name="email", kind="identifier", privacy="personal", nullable=True, feature=False),
        Column(name="depot", kind="category", categories=("north", "south")),
        Column(name="weight", kind="number", minimum=0, maximum=100),
    ),
)


def customer(number: int) -> str:
    """Name a subject."""
    return f"Customer Nr {number:04d}"


def email(number: int) -> str:
    """Give a subject's other identity."""
    return f"person{number:04d}@mail.example"


def order(subject: int, number: int) -> str:
    """Name a row."""
    return f"order-{subject:04d}-{number:02d}"


def make_rows(subjects: range, numbers: range, seed: int = 0, spoil: bool = False) -> pa.Table:
    """Make rows as they come: `numbers` of each subject; spoiled ones will be refused."""
    chance = np.random.default_rng(seed)
    pairs = [(s, n) for n in numbers for s in subjects]
    weights = chance.uniform(1, 90, len(pairs)) * (-1 if spoil else 1)
    return pa.table(
        {
            "order": [order(s, n) for s, n in pairs],
            "due": pa.array(
                [START + timedelta(days=11 * n, minutes=s + 30) for s, n in pairs], TIMESTAMP
            ),
            "customer": [customer(s) for s, _ in pairs],
            "email": [email(s) if s % 3 else None for s, _ in pairs],
            "depot": [("north", "south")[s % 2] for s, _ in pairs],
            "weight": weights,
        }
    )


@dataclass
class World:
    """A filled workspace."""

    config: Config
    ledger: Ledger
    tables: Tables
    num_subjects: int
    datasets: list[DatasetVersion]
    versions: list[str]

    @property
    def tombstones(self) -> Tombstones:
        """Tombstones of nobody, under the workspace's key."""
        return Tombstones(pseudonym_key(self.config))

    def eraser(self, progress: object = None) -> Eraser:
        """Make what erases here."""
        shown = {"progress": progress} if progress else {}
        place = Workplace(self.config, self.ledger, self.tables, self.tombstones, **shown)
        return Eraser(place, lambda: NOW)

    def kept(self, subjects: set[int]) -> dict[str, list[dict[str, object]]]:
        """Read every row of every table, at the latest version, that is not about some subjects."""
        gone = tokens_of(self, subjects)
        kept = {}
        for name in NAMES:
            rows = self.tables.read(name).to_pylist()
            kept[name] = [r for r in rows if not gone & set(NAMED.findall(str(r).encode()))]
        return kept


def make_config(workspace: Path, *, sealed: bool = False) -> Config:
    """Make the configuration of the world."""
    return Config(
        name="orders",
        workspace=workspace,
        source=SourceConfig(kind="parquet", events="none.parquet"),
        contract=CONTRACT,
        serving=ServingConfig(ship_seconds=0.2),
        encryption=EncryptionConfig(at_rest=sealed),
    )


def make_world(
    workspace: Path, num_subjects: int = 30, rows_each: int = 8, *, sealed: bool = False
) -> World:
    """Fill a workspace."""
    config = make_config(workspace, sealed=sealed)
    tables = open_tables(config)
    ledger = open_ledger(config.ledger_url)
    world = World(config, ledger, tables, num_subjects, [], [])
    everybody = range(num_subjects)
    for commit in range(COMMITS):
        numbers = range(commit * rows_each // COMMITS, (commit + 1) * rows_each // COMMITS)
        bring_in(world, make_rows(everybody, numbers, seed=commit), commit)
        world.datasets.append(
            take_snapshot(tables, CONTRACT, None, NOW, START + timedelta(days=30 * (commit + 1)))
        )
        world.versions.append(_register(world, commit))
    tables.compact("events")
    spoiled = make_rows(everybody, range(90, 91), seed=9, spoil=True)
    bring_in(world, spoiled, COMMITS)
    _leave_in_spool(world, make_rows(everybody, range(91, 92), seed=10))
    _score(world, everybody)
    _remember(world)
    return world


def bring_in(world: World, rows: pa.Table, commit: int) -> None:
    """Validate, protect and commit rows, with predictions and outcomes of those accepted."""
    config, tables = world.config, world.tables
    checked = validate(rows, CONTRACT, pseudonymiser=Pseudonymiser(pseudonym_key(config)))
    at = START + timedelta(days=30 * commit)
    if checked.quarantined.num_rows:
        tables.append("quarantine", tables.complete("quarantine", checked.quarantined, at, "test"))
    if not checked.accepted.num_rows:
        return
    events = tables.complete("events", checked.accepted, at, "serving" if commit % 2 else "test")
    tables.append("events", events)
    tables.append("predictions", _predictions(events, at))
    tables.append("shadows", _shadows(events, at))
    tables.append("labels", _labels(events, at, label=commit % 2))
    tables.append("labels", _labels(events.slice(0, 5), at + timedelta(days=1), label=0))


def _predictions(events: pa.Table, at: datetime) -> pa.Table:
    size = events.num_rows
    return pa.table(
        {
            "prediction_id": [f"prediction-of-{row}" for row in events["order"].to_pylist()],
            "idempotency_key": events["order"],
            "row_id": events["order"],
            "entity": events["customer"],
            "version": ["v1"] * size,
            "generation": [1] * size,
            "arm": ["champion"] * size,
            "propensity": [1.0] * size,
            "probability": [0.25] * size,
            "prediction_time": events["prediction_time"],
            "served_at": pa.array([at] * size, TIMESTAMP),
            "replica": ["test"] * size,
        }
    )


def _shadows(events: pa.Table, at: datetime) -> pa.Table:
    """What another version says of them, told nobody."""
    names = [f"shadow-of-{row}" for row in events["order"].to_pylist()]
    rows = _predictions(events, at).drop_columns(["arm", "propensity"])
    return rows.set_column(0, "prediction_id", pa.array(names))


def _labels(events: pa.Table, at: datetime, label: int) -> pa.Table:
    size = events.num_rows
    return pa.table(
        {
            "row_id": events["order"],
            "label": pa.array([label] * size, pa.int8()),
            "void": [False] * size,
            "known_at": pa.array([at] * size, TIMESTAMP),
            "received_at": pa.array([at] * size, TIMESTAMP),
            "source": ["test"] * size,
        }
    )


def _leave_in_spool(world: World, rows: pa.Table) -> None:
    """Capture rows as a replica does that dies before it ships them."""
    tables = world.tables
    secret = Pseudonymiser(pseudonym_key(world.config))
    events = tables.complete(
        "events", validate(rows, CONTRACT, pseudonymiser=secret).accepted, NOW, "serving"
    )
    schemas = {name: tables.schema(name) for name in NAMES}
    spool = Spool(world.config.spool_path, schemas, keyring=tables.sealing.for_new)
    spool.append({"events": events, "predictions": _predictions(events, NOW)})
    spool.append({"shadows": _shadows(events, NOW)})
    spool.append({"labels": _labels(events, NOW, label=1)})
    spool.close()


def _score(world: World, subjects: range) -> None:
    folder = world.config.workspace / "scores"
    folder.mkdir()
    ids = [order(s, 0) for s in subjects]
    pq.write_table(pa.table({"row_id": ids, "probability": [0.5] * len(ids)}), folder / "a.parquet")


def _remember(world: World) -> None:
    """Leave a monitor's memory in the ledger."""
    batch = Batch(**{name: world.tables.read(name) for name in READING_ORDER})
    state = fold(FoldState.empty(CONTRACT), batch, CONTRACT)
    offsets = {name: world.tables.version(name) for name in READING_ORDER}
    record_fold(world.ledger, world.config.name, (), offsets, pack(state), NOW, {})


def _register(world: World, number: int) -> str:
    one = Metric(value=0.7, low=0.6, high=0.8)
    figures = {"roc_auc": one, "pr_auc": one, "brier": one, "log_loss": 0.6}
    evaluation = Evaluation(
        num_rows=400,
        positive_share=0.3,
        mean_probability=0.3,
        calibration_error=0.01,
        **figures,  # type: ignore[arg-type]
    )
    digest = f"{number + 1:064x}"
    version = ModelVersion(
        digest=digest,
        model=world.config.name,
        run=f"run-{number}",
        kind="trained",
        created_at=START + timedelta(days=number),
        dataset=world.datasets[-1],
        trained_until=NOW,
        held_out_days=(),
        config_digest="0" * 16,
        code_version="test",
        seed=1,
        evaluation=evaluation,
    )
    register_version(world.ledger, version)
    return digest


def bytes_below(config: Config) -> dict[str, bytes]:
    """Read every file of a workspace, also decoded, sealed or not: one text a line."""
    found, root = {}, config.workspace
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        found[path.relative_to(root).as_posix()] = path.read_bytes()
        found[f"{path.relative_to(root).as_posix()} decoded"] = _decoded(path, config)
    return found


def _decoded(path: Path, config: Config) -> bytes:
    """Read what can be read with the keys; of a sealed store every page, free ones too."""
    sealing = open_sealing(config)
    tables = []
    if path.suffix == ".parquet":
        tables = [pq.ParquetFile(path, decryption_properties=sealing.to_read()).read()]
    elif path.suffix in (OPEN, CLOSED, DAMAGED):
        tables = [*read_segment(path, sealing.keyring).tables.values()]
    elif path.suffix == ".sqlite" and sealing.keyring and is_sealed(path):
        return every_page(path, sealing.keyring)
    columns = [column for table in tables for column in table.columns]
    return "\n".join(str(value) for column in columns for value in column.to_pylist()).encode()


def tokens_of(world: World, subjects: set[int]) -> set[bytes]:
    """Everything that names some subjects: identities, pseudonyms, ids of their rows."""
    secret = world.tombstones
    names = {name(s) for s in subjects for name in (customer, email)}
    texts = names | {secret.pseudonym(name) for name in names}
    texts |= {order(s, n) for s in subjects for n in [*range(20), 90, 91]}
    return {text.encode() for text in texts}


def hits(world: World, tokens: set[bytes]) -> list[tuple[str, bytes]]:
    """Search every byte below the workspace; the keys are searched too."""
    files = bytes_below(world.config)
    # One look at each byte instead of one for each token: everything that names anybody here.
    assert all(NAMED.fullmatch(token) for token in tokens)
    found = ((name, set(NAMED.findall(content)) & tokens) for name, content in files.items())
    return [(name, token) for name, named in found for token in sorted(named)]

"""While files stream in nobody who was erased comes back, and no guarded value stays anywhere."""

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.config import Config
from app.contracts.rows import Contract
from app.data.forgetting import ERASED
from app.data.halting import IngestStopped
from app.data.ingestion import IngestResult
from app.data.looks import Looks
from app.data.report import read_report
from app.data.rotation import Rotated, rotate
from app.data.sealing import key_of
from app.data.tables import open_tables
from app.data.watching import Watch
from app.ledger.database import open_ledger
from app.ledger.erasures import add_tombstones, begin_erasure
from app.sections import InlineConfig, IntakeConfig, SourceConfig
from app.security.keyring import open_keyring
from app.security.secrets import pseudonym_key
from app.security.tombstones import Tombstones
from app.serving.resealing import places_of
from jobs import ingest

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]
CONTRACT = {
    "id": "parcel", "event_time": "promised", "label": "lost", "entity": "sender",
    "columns": [
        {"name": "parcel", "kind": "identifier", "feature": False},
        {"name": "promised", "kind": "time", "feature": False},
        {"name": "sender", "kind": "identifier", "privacy": "personal", "feature": False},
        {"name": "passport", "kind": "identifier", "privacy": "forbidden"},
        {"name": "weight", "kind": "number", "minimum": 0, "maximum": 40},
    ],
}  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path, flights: Config) -> Config:
    """A model of parcels that come as JSON lines."""
    (tmp_path / "rows").mkdir()
    source = SourceConfig(kind="jsonl", events=str(tmp_path / "rows"))
    contract = Contract.model_validate(CONTRACT)
    return flights.model_copy(update={"contract": contract, "source": source, "clock": "wall"})


def deliver(config: Config, name: str, *numbers: int, **changes: object) -> None:
    rows = [
        {
            "parcel": f"P{n}",
            "promised": "2024-03-01T10:00:00Z",
            "sender": f"Ada Lovelace {n}",
            "weight": 2.5,
            **changes,
        }
        for n in numbers
    ]
    path = Path(config.source.events or "") / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def counts(result: IngestResult) -> tuple[int, int, int]:
    return result.num_in, result.num_accepted, result.num_quarantined


def files_with(folder: Path, *texts: str) -> list[Path]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if any(t.encode() in file.read_bytes() for t in texts)]


def test_who_was_erased_does_not_come_back_and_forbidden_keys_are_dropped(shop: Config) -> None:
    nobody = Tombstones(pseudonym_key(shop))
    with closing(open_ledger(shop.ledger_url)) as ledger, ledger.transaction() as connection:
        subject = nobody.subject("Ada Lovelace 1")
        begin_erasure(connection, shop.name, "e1", {subject}, datetime.now(UTC))
        add_tombstones(
            connection, shop.name, "e1", {("subject", subject), ("row", nobody.row("P5"))}
        )
    deliver(shop, "a", 0, 1, passport="SECRET-PASSPORT")
    deliver(shop, "b", 1, 3, weight=-1)
    deliver(shop, "c", 5)
    result = ingest.run(shop)
    assert counts(result) == (5, 1, 4)
    tables = open_tables(shop)
    assert tables.read("events")["parcel"].to_pylist() == ["P0"]
    refused = tables.read("quarantine")
    reasons = [reason for row in refused["reasons"].to_pylist() for reason in row]
    assert sorted(reasons) == [ERASED] * 3 + ["weight must be in 0..40, got -1.0"]
    assert nobody.pseudonym("Ada Lovelace 1") not in str(refused.to_pylist())
    report = read_report(Path(result.report or ""))
    (forbidden,) = report.forbidden
    assert (forbidden.column, forbidden.num_deliveries, forbidden.num_rows) == ("passport", 1, 2)
    assert files_with(shop.workspace, "SECRET-PASSPORT", "Ada Lovelace") == []
    assert [entry.name for entry in (shop.workspace / "staging").iterdir()] == ["lock"]


def test_a_follower_that_is_stopped_commits_nothing_and_judges_the_same_files_once(
    shop: Config,
) -> None:
    strict = shop.model_copy(update={"intake": IntakeConfig(stop_above_share=0.5)})
    watch = Watch(looks=Looks(following=True))

    def look() -> IngestResult:
        watch.looks.begin(datetime.now(UTC).timestamp() + 60)
        return ingest.run(strict, watch=watch)

    deliver(shop, "a", 0)
    deliver(shop, "b", 1, 2, weight=-1)
    with pytest.raises(IngestStopped, match="2 of 3 rows"):
        look()
    assert open_tables(shop).version("events") == -1
    assert counts(look()) == (0, 0, 0)
    assert len(list(shop.ingest_reports_path.glob("*.json"))) == 1
    assert len(list(shop.ingest_reports_path.glob("*.html"))) == 1
    # An id that waited is not in: P0 comes in once.
    deliver(shop, "c", 0, 3, 4, 5)
    assert counts(look()) == (7, 4, 3)
    assert sorted(open_tables(shop).read("events")["parcel"].to_pylist()) == [
        "P0",
        "P3",
        "P4",
        "P5",
    ]


def test_what_workers_stage_is_sealed_and_a_change_of_keys_meanwhile_loses_nothing(
    shop: Config,
) -> None:
    """No key is sent to a worker: each finds the ring, and the pseudonyms' key, where it works."""
    nobody = Tombstones(pseudonym_key(shop))
    person = nobody.pseudonym("Ada Lovelace 1")
    keyring, staged, changes = open_keyring(shop), set[str](), list[Rotated]()

    def look(_: object) -> None:
        found = list((shop.workspace / "staging").glob("*/*"))
        staged.update(str(key_of(path.name)) for path in found)
        assert files_with(shop.workspace, "Ada Lovelace", person) == []
        if found and not changes:
            changes.append(rotate(open_tables(shop), keyring, places_of(shop, keyring)))

    deliver(shop, "a", 0, 1, 2)
    deliver(shop, "b", 1, 3)
    result = ingest.run(shop, watch=Watch(tell=look))
    assert counts(result) == (5, 4, 1)
    (change,) = changes
    (old,) = change.kept
    assert (change.retired, old in staged) == ((), True)
    tables = open_tables(shop)
    senders = dict(
        zip(*(tables.read("events")[n].to_pylist() for n in ("parcel", "sender")), strict=True)
    )
    assert senders["P1"] == person
    assert len(senders) == 4
    assert rotate(tables, keyring, places_of(shop, keyring)).retired == (old,)
    assert tables.read("events").num_rows == 4
    assert files_with(shop.workspace, "Ada Lovelace", person) == []


def test_outcomes_inside_rows_without_ids_come_in_from_csv(shop: Config, tmp_path: Path) -> None:
    columns = [
        {"name": "row_id", "kind": "identifier", "feature": False, "generated": True},
        {"name": "arrived_at", "kind": "time", "feature": False, "generated": True},
        {"name": "weight", "kind": "number", "minimum": 0},
    ]
    contract = {"id": "row_id", "event_time": "arrived_at", "label": "lost", "columns": columns}
    inline = InlineConfig(label_column="was_lost", positive=("yes",), negative=("no",))
    file = tmp_path / "table.csv"
    file.write_text("Weight;Was Lost\n1;yes\n2;no\n-3;yes\n4;\n5;perhaps\n6;yes;no\n")
    source = SourceConfig(kind="csv", events=str(file), delimiter=";", inline=inline)
    config = shop.model_copy(
        update={"contract": Contract.model_validate(contract), "source": source}
    )
    result = ingest.run(config)
    assert counts(result) == (6, 4, 2)
    assert (result.num_labels_in, result.num_labels, result.num_labels_quarantined) == (4, 2, 2)
    tables = open_tables(config)
    weights = dict(
        zip(
            *(tables.read("events")[name].to_pylist() for name in ("row_id", "weight")), strict=True
        )
    )
    labels = tables.read("labels")
    told = zip(labels["row_id"].to_pylist(), labels["label"].to_pylist(), strict=True)
    assert {weights[row]: label for row, label in told} == {1.0: 1, 2.0: 0}
    assert counts(ingest.run(config)) == (0, 0, 0)

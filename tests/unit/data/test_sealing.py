import json
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder

from app.contracts.rows import Contract
from app.data.delta_log import data_files
from app.data.rewriting import rewrite_versions
from app.data.sealing import SealBroken, Sealing, key_of
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.tables import Tables
from app.data.validation import validate_rows
from app.security.keyring import FileKeyring
from app.security.secrets import SecretError

NOON = datetime(2024, 4, 2, 12, tzinfo=UTC)
CANARY = "p_00canary00canary"
PUBLIC = ("parcel", "promised", "depot", "rain", "prediction_time", "source", "ingested_at")
Make = Callable[..., dict[str, object]]


@pytest.fixture
def private(parcels: Contract) -> Contract:
    """The parcels, whose senders are personal and whose weights are quasi identifiers."""
    columns = tuple(
        column.model_copy(update={"privacy": "quasi"}) if column.name == "weight" else column
        for column in parcels.columns
    )
    return parcels.model_copy(update={"columns": columns})


@pytest.fixture
def ring(tmp_path: Path) -> FileKeyring:
    return FileKeyring(tmp_path / "keyring.json")


@pytest.fixture
def sealed(tmp_path: Path, private: Contract, ring: FileKeyring) -> Tables:
    return Tables(tmp_path / "sealed", private, Sealing(ring, at_rest=True))


@pytest.fixture
def without_keys(sealed: Tables) -> Tables:
    return Tables(sealed.root, sealed.contract)


@pytest.fixture
def rows(private: Contract, parcel: Make) -> pa.Table:
    made = [parcel(i, sender=CANARY, weight=30.0 + i / 1000) for i in range(200)]
    return validate_rows(made, private).accepted


@pytest.fixture
def filled(sealed: Tables, rows: pa.Table, parcel: Make) -> Tables:
    """Two sealed files of events and one of quarantined rows."""
    events = sealed.complete("events", rows, NOON, "test")
    sealed.append("events", events.slice(0, 100), ("spool", 1))
    sealed.append("events", events.slice(100), ("spool", 2))
    refused = validate_rows([parcel(1, sender=CANARY, weight=-7777.5)], sealed.contract).quarantined
    sealed.append("quarantine", sealed.complete("quarantine", refused, NOON, "test"))
    return sealed


def file_of(tables: Tables, name: str = "events") -> Path:
    folder = tables.root / name
    return folder / data_files(folder)[0]


def all_bytes(folder: Path) -> Iterator[bytes]:
    return (file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_rows_come_back_as_they_were_with_the_key(filled: Tables, rows: pa.Table) -> None:
    events = filled.complete("events", rows, NOON, "test")
    assert filled.read("events").sort_by("weight").equals(events)
    assert filled.read_since("events", -1)[0].equals(events)
    assert filled.read("events", version=1).num_rows == 100
    assert filled.append("events", events, ("spool", 2)) is None
    heavy = filled.read("events", columns=["parcel"], filters=pc.field("weight") > 30.1985)
    assert heavy["parcel"].to_pylist() == ["P199"]


def test_no_private_value_is_on_the_disk(filled: Tables) -> None:
    folder = filled.root
    for canary in (CANARY.encode(), b"-7777.5", struct.pack("<d", 30.123)):
        assert not any(canary in content for content in all_bytes(folder))
    plain = Tables(folder.parent / "plain", filled.contract)
    plain.append("events", filled.read("events"))
    assert any(CANARY.encode() in content for content in all_bytes(plain.root))


def test_without_the_key_public_columns_are_read_and_private_ones_say_why_not(
    filled: Tables, without_keys: Tables, rows: pa.Table
) -> None:
    events = filled.complete("events", rows, NOON, "test").select(PUBLIC)
    got = without_keys.read("events", columns=PUBLIC)
    assert got.sort_by([("parcel", "ascending")]).equals(events.sort_by([("parcel", "ascending")]))
    for column in ("sender", "weight"):
        with pytest.raises(SecretError, match="sender, weight are sealed and no keyring"):
            without_keys.read("events", columns=["parcel", column])
    with pytest.raises(SecretError, match="row, reasons are sealed"):
        without_keys.read_since("quarantine", -1)
    positions = without_keys.read("quarantine", columns=["position", "source"])
    assert positions.to_pylist() == [{"position": 0, "source": "test"}]


def test_a_plain_reader_sees_the_public_columns_only(filled: Tables) -> None:
    file = file_of(filled)
    public = pq.read_table(file, columns=list(PUBLIC))
    assert public.num_rows == 100
    with pytest.raises(OSError, match="Cannot decrypt"):
        pq.read_table(file, columns=["sender"])
    outside = DeltaTable(filled.folder("events"))
    assert outside.to_pyarrow_table(columns=["depot", "rain"]).num_rows == 200
    sql = QueryBuilder().register("events", outside)
    assert sql.execute("select depot, source from events").read_all().num_rows == 200
    with pytest.raises(Exception, match="Parquet error"):
        sql.execute("select sender from events").read_all()


def test_the_key_of_another_ring_opens_nothing(filled: Tables, tmp_path: Path) -> None:
    other = FileKeyring(tmp_path / "other.json")
    other.current()
    stranger = Tables(filled.root, filled.contract, Sealing(other))
    with pytest.raises(SecretError, match="has no master key"):
        stranger.read("events")
    assert stranger.read("events", columns=["depot"]).num_rows == 200


def test_no_statistics_of_private_columns_are_kept(filled: Tables) -> None:
    file = file_of(filled)
    properties = filled.sealing.to_read()
    group = pq.ParquetFile(file, decryption_properties=properties).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    kept = {column.path_in_schema for column in columns if column.statistics is not None}
    assert kept == set(PUBLIC)
    commits = (filled.folder("events") / "_delta_log").glob("*.json")
    actions = [json.loads(line) for file in commits for line in file.read_text().splitlines()]
    stats = [json.loads(action["add"]["stats"]) for action in actions if "add" in action]
    assert [set(item["minValues"]) for item in stats] == [{"ingested_at"}] * 2


def test_what_is_altered_in_a_sealed_column_is_noticed(filled: Tables) -> None:
    file = file_of(filled)
    whole = file.read_bytes()
    group = pq.ParquetFile(file, decryption_properties=filled.sealing.to_read()).metadata.row_group(
        0
    )
    columns = [group.column(number) for number in range(group.num_columns)]
    spans = [
        (
            column.dictionary_page_offset or column.data_page_offset,
            column.total_compressed_size,
        )
        for column in columns
        if column.path_in_schema in ("sender", "weight")
    ]
    for start, size in spans:
        for place in range(start, start + size, max(1, size // 7)):
            altered = bytearray(whole)
            altered[place] ^= 1
            file.write_bytes(altered)
            with pytest.raises((SealBroken, OSError)):
                filled.files("events").read(file.name)
    file.write_bytes(whole)
    assert filled.files("events").read(file.name).num_rows == 100


def test_plain_files_of_before_and_sealed_ones_are_read_together(
    filled: Tables, without_keys: Tables, rows: pa.Table
) -> None:
    without_keys.append("events", filled.complete("events", rows, NOON, "before"))
    assert filled.read("events").num_rows == 400
    assert filled.read_since("events", 1)[0].num_rows == 300
    assert [key_of(file) is None for file in data_files(filled.folder("events"))].count(True) == 1


def test_a_column_that_became_private_later_is_still_read(
    filled: Tables, parcels: Contract, ring: FileKeyring
) -> None:
    """The contract of now calls weights public, the files were sealed when they were quasi."""
    now = Tables(filled.root, parcels, Sealing(ring, at_rest=True))
    assert now.read("events", columns=["weight"]).num_rows == 200


def test_a_snapshot_of_sealed_rows_has_the_digest_of_plain_ones(
    filled: Tables, without_keys: Tables, private: Contract
) -> None:
    window = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)
    plain = Tables(filled.root.parent / "plain", private)
    plain.append("events", filled.read("events"))
    dataset = take_snapshot(filled, private, *window, NOON)
    assert dataset.digest == take_snapshot(plain, private, *window, NOON).digest
    assert load_snapshot(filled, private, dataset).num_rows == 200
    with pytest.raises(SecretError, match="are sealed"):
        load_snapshot(without_keys, private, dataset)


def test_rows_are_dropped_from_sealed_files_and_those_that_stay_are_sealed(
    filled: Tables,
) -> None:
    rewrite_versions(filled, "events", lambda rows: pc.not_equal(rows["parcel"], "P3").to_numpy())
    assert filled.read("events").num_rows == 199
    assert all(key_of(file) for file in data_files(filled.folder("events")))
    assert not any(CANARY.encode() in content for content in all_bytes(filled.root))


def test_an_id_that_is_private_is_sealed_wherever_it_stands(
    tmp_path: Path, parcels: Contract, ring: FileKeyring
) -> None:
    columns = tuple(
        column.model_copy(update={"privacy": "quasi"}) if column.name == "parcel" else column
        for column in parcels.columns
    )
    contract = parcels.model_copy(update={"columns": columns})
    tables = Tables(tmp_path / "tables", contract, Sealing(ring, at_rest=True))
    content = {
        "row_id": [CANARY],
        "label": [1],
        "void": [False],
        "known_at": [NOON],
        "received_at": [NOON],
        "source": ["test"],
    }
    tables.append("labels", pa.table(content))
    content = {
        "prediction_id": ["1"],
        "idempotency_key": [CANARY],
        "row_id": [CANARY],
        "entity": [CANARY],
        "version": ["v"],
        "generation": [1],
        "arm": ["champion"],
        "propensity": [1.0],
        "probability": [0.5],
        "prediction_time": [NOON],
        "served_at": [NOON],
        "replica": ["r"],
    }
    tables.append("predictions", pa.table(content))
    assert tables.read("predictions")["entity"].to_pylist() == [CANARY]
    assert tables.read("labels")["row_id"].to_pylist() == [CANARY]
    assert not any(CANARY.encode() in part for part in all_bytes(tables.root))

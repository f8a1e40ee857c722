"""A window is declared later than its table: files of both shapes live side by side."""

import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from app.contracts.rows import Contract
from app.contracts.windows import Window
from app.data.delta_log import added, path_of
from app.data.derived import with_windows
from app.data.facts import asked_at
from app.data.rewriting import rewrite_versions
from app.data.rotation import rotate
from app.data.sealing import Sealing, key_of
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.tables import Tables
from app.data.validation import validate_rows
from app.security.keyring import FileKeyring

NOON = datetime(2024, 4, 2, 12, tzinfo=UTC)
CANARY = 30.123456789
Make = Callable[..., dict[str, object]]


@pytest.fixture
def private(parcels: Contract) -> Contract:
    """The parcels, whose weights are quasi identifiers."""
    columns = tuple(
        column.model_copy(update={"privacy": "quasi"}) if column.name == "weight" else column
        for column in parcels.columns
    )
    return parcels.model_copy(update={"columns": columns})


@pytest.fixture
def windowed(private: Contract) -> Contract:
    return Contract.model_validate(
        private.model_dump()
        | {
            "windows": (
                Window(name="sent", aggregate="count", window_days=9),
                Window(name="carried", aggregate="sum", of="weight", window_days=9),
                Window(name="lost_share", aggregate="share", of="label", window_days=99),
            )
        }
    )


@pytest.fixture
def ring(tmp_path: Path) -> FileKeyring:
    return FileKeyring(tmp_path / "keyring.json")


@pytest.fixture
def before(tmp_path: Path, private: Contract, ring: FileKeyring) -> Tables:
    """The tables as they are while nobody has declared a window."""
    return Tables(tmp_path / "tables", private, Sealing(ring, at_rest=True))


@pytest.fixture
def tables(before: Tables, windowed: Contract, parcel: Make) -> Tables:
    """Two files of before, two of after; versions 1, 2 and 4, 5."""
    after = Tables(before.root, windowed, before.sealing)
    for place in (before, after):
        for number in range(2):
            rows = validate_rows([parcel(number), parcel(number + 5)], place.contract).accepted
            if place is after:
                for name in ("sent", "carried", "lost_share"):
                    rows = rows.append_column(name, pa.array([CANARY, None], pa.float64()))
            at = NOON + timedelta(minutes=place.version("events"))
            place.append("events", place.complete("events", rows, at, "test"))
    return after


def contents(tables: Tables) -> list[list[dict[str, object]]]:
    """Read every version."""
    order = [("ingested_at", "ascending"), ("parcel", "ascending")]
    versions = range(tables.version("events") + 1)
    return [tables.read("events", version).sort_by(order).to_pylist() for version in versions]


def test_an_older_table_gets_the_columns_once_and_old_versions_stay(
    tables: Tables, before: Tables
) -> None:
    assert tables.version("events") == 5
    assert [len(added(tables.folder("events"), v)) for v in range(6)] == [0, 1, 1, 0, 1, 1]
    rows = tables.read("events")
    assert rows.schema == tables.schema("events")
    assert (rows["sent"].null_count, set(rows["sent"].drop_null().to_pylist())) == (6, {CANARY})
    assert tables.read_since("events", -1)[0]["carried"].null_count == 6
    assert tables.read_since("events", 2)[0].num_rows == 4
    assert tables.read("events", version=2)["sent"].null_count == 4
    assert before.read("events").num_rows == 8
    stats = DeltaTable(tables.folder("events")).metadata().configuration
    assert stats["delta.dataSkippingStatsColumns"] == "ingested_at"


def test_without_the_window_again_rows_still_come_in(before: Tables, tables: Tables) -> None:
    rows = before.read("events").slice(0, 2)
    assert before.append("events", rows) == 6
    assert before.read("events").num_rows == tables.read("events").num_rows == 10


def test_many_who_add_the_columns_at_once_add_them_once(
    before: Tables, windowed: Contract, parcel: Make
) -> None:
    rows = validate_rows([parcel(1)], before.contract).accepted
    before.append("events", before.complete("events", rows, NOON, "test"))

    def append(number: int) -> int | None:
        own = Tables(before.root, windowed, before.sealing)
        return own.append(
            "events", own.complete("events", rows, NOON, "test"), (f"writer {number}", 1)
        )

    with ThreadPoolExecutor(6) as pool:
        versions = sorted(version or 0 for version in pool.map(append, range(12)))
    assert versions == list(range(3, 15))
    assert Tables(before.root, windowed, before.sealing).read("events").num_rows == 13


def test_compacting_rewriting_and_rotating_keep_what_was_logged(
    tables: Tables, ring: FileKeyring
) -> None:
    whole = contents(tables)
    tables.compact("events")
    assert contents(tables) == [*whole, whole[-1]]

    def others(part: pa.Table) -> object:
        return pc.not_equal(part["parcel"], "P5").to_numpy()

    done = rewrite_versions(tables, "events", others)  # type: ignore[arg-type]
    assert (done.num_rows, done.num_files) == (2, 3)
    kept = [[row for row in rows if row["parcel"] != "P5"] for rows in [*whole, whole[-1]]]
    assert contents(tables) == kept
    rotated = rotate(tables, ring)
    assert rotated.num_files["events"] > 0
    assert contents(tables) == kept


def test_compacting_before_the_first_logged_row_loses_nothing(
    before: Tables, windowed: Contract, parcel: Make
) -> None:
    for number in range(3):
        rows = validate_rows([parcel(number)], before.contract).accepted
        before.append("events", before.complete("events", rows, NOON, "test"))
    after = Tables(before.root, windowed, before.sealing)
    after.compact("events")
    rows = after.complete("events", rows.append_column("sent", pa.array([1.5])), NOON, "test")
    after.append("events", rows)
    assert sorted(after.read("events")["sent"].fill_null(0).to_pylist()) == [0, 0, 0, 1.5]


def test_a_window_that_quotes_a_private_value_is_sealed(tables: Tables) -> None:
    (add,) = added(tables.folder("events"), 5)
    file = tables.folder("events") / path_of(add)
    assert key_of(file.name)
    assert pq.read_table(file, columns=["sent", "lost_share"])["sent"].null_count == 1
    with pytest.raises(OSError, match="Cannot decrypt"):
        pq.read_table(file, columns=["carried"])
    keyless = Tables(tables.root, tables.contract)
    assert keyless.read("events", columns=["parcel", "sent"])["sent"].null_count == 6
    # Public windows stand in the file as numbers; of the private one neither value nor bound does.
    copies = file.read_bytes().count(struct.pack("<d", CANARY))
    public = Tables(tables.root.parent / "public", tables.contract)
    public.append("events", tables.read("events", version=5).slice(0, 0))
    public.append("events", tables.read_since("events", 4)[0])
    plain = next(path for path in public.folder("events").glob("*.parquet") if path.stat().st_size)
    assert 0 < copies < plain.read_bytes().count(struct.pack("<d", CANARY))


def test_a_snapshot_that_counts_what_had_arrived_gives_windows_of_that(
    tables: Tables, parcel: Make
) -> None:
    contract = tables.contract
    rows = tables.read("events")
    first = rows.sort_by("prediction_time")["parcel"][0].as_py()
    known = datetime(2024, 3, 1, 12, tzinfo=UTC)
    outcome = {"row_id": first, "label": 1, "void": False, "known_at": known, "source": "test"}
    late = [outcome | {"received_at": NOON + timedelta(days=9)}]
    tables.append("labels", pa.Table.from_pylist(late, tables.schema("labels")))
    later = validate_rows([parcel(27, sender="sender 0")], contract).accepted
    tables.append("events", tables.complete("events", later, NOON, "test"))
    shares = []
    for received_by in (None, NOON):
        dataset = take_snapshot(tables, contract, None, NOON, NOON, received_by=received_by)
        loaded = load_snapshot(tables, contract, dataset)
        shares.append(loaded.filter(pc.equal(loaded["parcel"], "P27"))["lost_share"].to_pylist())
    assert shares == [[1.0], [None]]
    asked = later.append_column("prediction_time", later["promised"])
    assert asked_at(tables.read("events")).shape == (9,)
    assert with_windows(tables, contract, asked.slice(0, 0), asked_at(rows)[:0]).num_rows == 0

"""Bringing sources in on a cluster: flights whole, files good and hostile."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from app.config import Config
from app.contracts.rows import Column, Contract
from app.contracts.times import day_numbers
from app.data.files import SourceError
from app.data.forgetting import ERASED
from app.data.ingestion import IngestResult
from app.data.preprocess import ingest
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.sources import read_source
from app.data.tables import Tables, open_tables
from app.governance.eraser import Eraser
from app.governance.workplace import Workplace
from app.ledger.database import open_ledger
from app.sections import SourceConfig
from app.security.secrets import pseudonym_key
from app.security.tombstones import Tombstones

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

NOON = datetime(2024, 4, 1, 12, tzinfo=UTC)
Parcels = Callable[..., pa.Table]


def assert_exact(result: IngestResult) -> None:
    assert result.num_in == result.num_accepted + result.num_quarantined
    assert result.num_labels_in == result.num_labels + result.num_labels_quarantined


@pytest.fixture
def shop(tmp_path: Path, flights: Config) -> Config:
    """A model of parcels whose source is a folder of Parquet files."""
    (tmp_path / "rows").mkdir()
    contract = Contract(
        id="parcel",
        event_time="promised",
        label="lost",
        columns=(
            Column(name="parcel", kind="identifier", feature=False),
            Column(name="promised", kind="time", feature=False),
            Column(name="sender", kind="identifier", privacy="personal", nullable=True),
            Column(name="depot", kind="category", categories=("north", "south")),
            Column(name="weight", kind="number", minimum=0, maximum=40),
        ),
    )
    source = SourceConfig(
        kind="parquet", events=str(tmp_path / "rows"), labels=str(tmp_path / "labels.parquet")
    )
    outcomes(tmp_path, ["P0", "P1", "P1", "nobody"])
    return flights.model_copy(update={"contract": contract, "source": source})


def outcomes(folder: Path, ids: list[str]) -> None:
    count = len(ids)
    table = pa.table(
        {
            "row_id": ids,
            "label": [1] * count,
            "void": [False] * count,
            "known_at": [datetime(2024, 3, 20, tzinfo=UTC)] * count,
        }
    )
    pq.write_table(table, folder / "labels.parquet")


def parcels(*numbers: int, **changes: list[object]) -> pa.Table:
    columns: dict[str, object] = {
        "parcel": [f"P{n}" for n in numbers],
        "promised": [datetime(2024, 3, 1 + n % 28, 10, tzinfo=UTC) for n in numbers],
        "sender": [f"Ada {n}" for n in numbers],
        "depot": ["north"] * len(numbers),
        "weight": [2.5] * len(numbers),
    }
    return pa.table({**columns, **changes})


def rows_file(config: Config, name: str) -> Path:
    return Path(config.source.events or "") / name


def tables_of(config: Config) -> Tables:
    return open_tables(config)


def test_files_come_in_validated_protected_and_with_their_positions(shop: Config) -> None:
    pq.write_table(parcels(0, 1, 2), rows_file(shop, "a.parquet"))
    bad = parcels(3, 0, 5, 6, weight=[-1.0, 2.0, float("nan"), float("inf")])
    pq.write_table(bad, rows_file(shop, "b.parquet"), row_group_size=2)
    result = ingest(shop, tables_of(shop), at=NOON)
    assert_exact(result)
    assert (result.num_in, result.num_accepted, result.num_quarantined) == (7, 3, 4)
    events, quarantine = (tables_of(shop).read(name) for name in ("events", "quarantine"))
    assert sorted(events["parcel"].to_pylist()) == ["P0", "P1", "P2"]
    assert all(sender.startswith("p_") for sender in events["sender"].to_pylist())
    assert "Ada" not in str(quarantine.to_pylist())
    of_rows = quarantine.filter(pc.match_substring(quarantine["row"], "depot"))
    reasons = dict(
        zip(of_rows["position"].to_pylist(), of_rows["reasons"].to_pylist(), strict=True)
    )
    assert reasons == {
        0: ["weight must be in 0..40, got -1.0"],
        1: ["parcel is given more than once; the first row is kept, got 'P0'"],
        2: ["weight is NaN; send null for an unknown value, got nan"],
        3: ["weight must be finite, got inf"],
    }


def test_labels_twice_and_of_unknown_rows_are_quarantined(shop: Config) -> None:
    pq.write_table(parcels(0, 1, 2), rows_file(shop, "a.parquet"))
    result = ingest(shop, tables_of(shop), at=NOON)
    assert_exact(result)
    assert (result.num_labels, result.num_labels_quarantined) == (2, 2)
    assert sorted(tables_of(shop).read("labels")["row_id"].to_pylist()) == ["P0", "P1"]
    reasons = {
        reason
        for row in tables_of(shop).read("quarantine")["reasons"].to_pylist()
        for reason in row
    }
    assert reasons == {
        "row_id has an outcome of that time already; the first is kept",
        "row_id must name an accepted row, got 'nobody'",
    }


def test_a_repeat_adds_nothing_and_a_new_file_adds_its_rows(shop: Config) -> None:
    pq.write_table(parcels(0, 1), rows_file(shop, "a.parquet"))
    first = ingest(shop, tables_of(shop), at=NOON)
    again = ingest(shop, tables_of(shop), at=NOON)
    assert (again.num_in, again.num_labels_in) == (0, 0)
    assert again.events_version == first.events_version
    pq.write_table(parcels(1, 2), rows_file(shop, "b.parquet"))
    third = ingest(shop, tables_of(shop), at=NOON)
    assert (third.num_in, third.num_accepted, third.num_quarantined) == (2, 1, 1)
    assert tables_of(shop).read("events").num_rows == 3
    assert ["parcel was ingested before, got 'P1'"] in tables_of(shop).read("quarantine")[
        "reasons"
    ].to_pylist()


def test_an_erased_subject_does_not_come_back_by_another_ingest(shop: Config) -> None:
    pq.write_table(parcels(0, 1, 2), rows_file(shop, "a.parquet"))
    ingest(shop, tables_of(shop), at=NOON)
    ledger = open_ledger(shop.ledger_url)
    nobody = Tombstones(pseudonym_key(shop))
    place = Workplace(shop, ledger, tables_of(shop), nobody)
    assert Eraser(place, lambda: NOON).erase(["Ada 1"]).receipt.verified
    # The same rows in another file, and their outcomes once more.
    pq.write_table(parcels(1, 3), rows_file(shop, "b.parquet"))
    outcomes(rows_file(shop, "").parent, ["P1", "P3"])
    again = ingest(shop, tables_of(shop), at=NOON)
    assert_exact(again)
    assert (again.num_in, again.num_accepted, again.num_quarantined) == (2, 1, 1)
    assert (again.num_labels, again.num_labels_quarantined) == (1, 1)
    assert sorted(tables_of(shop).read("events")["parcel"].to_pylist()) == ["P0", "P2", "P3"]
    quarantine = tables_of(shop).read("quarantine").to_pylist()
    assert [row["reasons"] for row in quarantine].count([ERASED]) == 2
    assert "P1" not in str(quarantine)
    assert nobody.pseudonym("Ada 1") not in str(quarantine)


@pytest.mark.parametrize("lost", ["events", "labels", "quarantine"])
def test_an_ingest_cut_off_between_commits_is_completed_by_the_next(
    shop: Config, lost: str
) -> None:
    import shutil

    pq.write_table(parcels(0, 1, 2, weight=[1.0, -1.0, 2.0]), rows_file(shop, "a.parquet"))
    ingest(shop, tables_of(shop), at=NOON)
    whole = {
        name: tables_of(shop).read(name).num_rows for name in ("events", "labels", "quarantine")
    }
    order = ["quarantine", "labels", "events"]
    for name in order[order.index(lost) :]:
        shutil.rmtree(shop.tables_path / name)
    ingest(shop, tables_of(shop), at=NOON)
    assert {name: tables_of(shop).read(name).num_rows for name in whole} == whole


def test_a_file_cut_in_half_brings_nothing_in(shop: Config) -> None:
    pq.write_table(parcels(0), rows_file(shop, "a.parquet"))
    file = rows_file(shop, "b.parquet")
    pq.write_table(parcels(*range(1, 9)), file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"b\.parquet: no whole parquet file"):
        ingest(shop, tables_of(shop), at=NOON)
    assert tables_of(shop).version("events") == -1


def test_damage_inside_a_file_is_the_files_error_and_brings_nothing_in(shop: Config) -> None:
    file = rows_file(shop, "a.parquet")
    pq.write_table(parcels(*range(20)), file, compression="none")
    content = bytearray(file.read_bytes())
    content[4:300] = b"\xff" * 296
    file.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.parquet: row group 0 cannot be read"):
        ingest(shop, tables_of(shop), at=NOON)
    assert tables_of(shop).version("events") == -1


def test_a_renamed_column_brings_nothing_in(shop: Config) -> None:
    pq.write_table(parcels(0).rename_columns({"weight": "mass"}), rows_file(shop, "a.parquet"))
    with pytest.raises(SourceError, match="no column weight; unknown column mass"):
        ingest(shop, tables_of(shop), at=NOON)
    assert tables_of(shop).version("events") == -1


def test_csv_comes_in_like_parquet_and_broken_lines_are_quarantined(
    shop: Config, tmp_path: Path
) -> None:
    file = tmp_path / "parcels.csv"
    table = parcels(0, 1, 2)
    table = table.set_column(1, "promised", pc.strftime(table["promised"], "%Y-%m-%dT%H:%M:%SZ"))
    pacsv.write_csv(table, file)
    file.write_text(file.read_text() + "P9,oops\n")
    source = SourceConfig(kind="csv", events=str(file))
    config = shop.model_copy(update={"source": source})
    result = ingest(config, tables_of(config), at=NOON)
    assert_exact(result)
    assert (result.num_in, result.num_accepted) == (4, 3)
    (refused,) = tables_of(config).read("quarantine").to_pylist()
    assert (refused["position"], refused["reasons"]) == (3, ["row has 2 fields instead of 5"])
    rows, labels = read_source(config)
    assert rows["weight"].to_pylist() == [2.5] * 3
    assert labels.num_rows == 0


def test_an_ingest_up_to_a_time_leaves_the_rest_for_the_next(shop: Config) -> None:
    pq.write_table(parcels(*range(10)), rows_file(shop, "a.parquet"))
    first = ingest(shop, tables_of(shop), datetime(2024, 3, 5, tzinfo=UTC), at=NOON)
    rest = ingest(shop, tables_of(shop), at=NOON)
    assert (first.num_accepted, rest.num_accepted) == (4, 6)
    assert (first.num_labels_in, rest.num_labels_in) == (0, 4)
    assert tables_of(shop).read("events").num_rows == 10


LATE_SHARES = [.227, .229, .228, .279, .220, .308, .315, .238, .132, .168, .174, .326]  # fmt: skip


def test_every_flight_of_2013_comes_in_once(flights: Config) -> None:
    tables = tables_of(flights)
    until = datetime(2013, 4, 1, tzinfo=UTC)
    first = ingest(flights, tables, until, at=until)
    rest = ingest(flights, tables, at=until)
    for result in (first, rest):
        assert_exact(result)
    assert first.num_in + rest.num_in == 336_776
    assert first.num_quarantined + rest.num_quarantined == 56  # A wind of 1,048 mph.
    assert ingest(flights, tables, at=until).num_in == 0
    end = datetime(2014, 2, 1, tzinfo=UTC)
    dataset = take_snapshot(tables, flights.contract, None, end, end)
    rows = load_snapshot(tables, flights.contract, dataset)
    assert (rows.num_rows, dataset.num_void, dataset.num_known) == (336_720, 9_430, 327_290)


def test_the_late_share_of_every_month_is_that_of_the_record(flights: Config) -> None:
    rows, labels = read_source(flights)
    assert rows.num_rows == labels.num_rows == 336_776
    assert late_shares(rows.append_column("label", labels["label"])) == LATE_SHARES


def late_shares(rows: pa.Table) -> list[float]:
    months = pc.month(rows["scheduled_departure"].cast(pa.timestamp("us", tz="America/New_York")))
    late, known = rows["label"].to_numpy(), months.to_numpy()
    return [round(float(np.nanmean(late[known == month])), 3) for month in range(1, 13)]


def test_history_holds_no_row_asked_and_no_outcome_known_after_it(flights: Config) -> None:
    tables = tables_of(flights)
    until = datetime(2013, 1, 11, tzinfo=UTC)
    ingest(flights, tables, until, at=until)
    days = day_numbers(tables.read("events", columns=["prediction_time"])["prediction_time"])
    assert date(1970, 1, 1).toordinal() + int(days.max()) == date(2013, 1, 10).toordinal()
    assert pc.max(tables.read("labels")["known_at"]).as_py() <= until
    assert set(tables.read("events")["ingested_at"].to_pylist()) == {until}

"""Bringing in every kind of source on a cluster: what grows, what is rewritten, what is damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from deltalake import DeltaTable, write_deltalake
from sqlalchemy import create_engine, text

from app.config import Config, show_config
from app.data import uniqueness
from app.data.commits import live_files
from app.data.halting import IngestStopped
from app.data.ingestion import IngestResult
from app.data.looks import Looks
from app.data.pieces import SourceError
from app.data.preprocess import ingest
from app.data.report import read_report
from app.data.tables import Tables, open_tables
from app.data.watching import Watch
from app.sections import IntakeConfig, SourceConfig

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

ROOT = Path(__file__).resolve().parents[2]
NOON = datetime(2024, 4, 1, 12, tzinfo=UTC)
Open = Callable[..., Config]


def parcel(number: int, weight: object = 2.5) -> dict[str, object]:
    promised = f"2024-03-{1 + number % 28:02d}T10:00:00Z"
    return {"parcel": f"P{number}", "promised": promised, "weight": weight}


def tables_of(config: Config) -> Tables:
    return open_tables(config)


def bring_in(config: Config, watch: Watch | None = None) -> IngestResult:
    result = ingest(config, tables_of(config), at=NOON, watch=watch)
    assert result.num_in == result.num_accepted + result.num_quarantined
    for delivery in result.deliveries:
        assert delivery.num_in == delivery.num_accepted + delivery.num_quarantined
    return result


def counts(result: IngestResult) -> tuple[int, int, int]:
    return result.num_in, result.num_accepted, result.num_quarantined


def reasons(config: Config) -> list[str]:
    rows = tables_of(config).read("quarantine")["reasons"].to_pylist()
    return sorted(reason for each in rows for reason in each)


def write_csv(folder: Path, name: str, *rows: dict[str, object]) -> Path:
    folder.mkdir(exist_ok=True)
    lines = ["parcel,promised,weight", *(",".join(map(str, row.values())) for row in rows)]
    file = folder / name
    file.write_text("\n".join(lines) + "\n")
    return file


def test_json_lines_come_in_strictly_and_no_line_is_lost(shop: Open, tmp_path: Path) -> None:
    lines = [json.dumps(parcel(0)), "no json", json.dumps(parcel(1, "2.5")), "[]", "", "{}"]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    labels = [
        {"row_id": "P0", "label": 1, "void": False, "known_at": "2024-03-20T00:00:00Z"},
        {"row_id": "P0", "label": None, "void": True, "known_at": "2024-03-21T00:00:00Z"},
        {"row_id": "P1", "label": 1, "void": False, "known_at": "2024-03-20T00:00:00Z"},
    ]
    outcomes = tmp_path / "labels.jsonl"
    outcomes.write_text("\n".join(map(json.dumps, labels)) + "\nbroken\n")
    config = shop(kind="jsonl", events=str(tmp_path / "a.jsonl"), labels=str(outcomes))
    result = bring_in(config)
    assert counts(result) == (5, 1, 4)
    assert (result.num_labels_in, result.num_labels, result.num_labels_quarantined) == (4, 2, 2)
    told = reasons(config)
    assert "row must be a JSON object, got list" in told
    assert "weight must be a number, not a string, got '2.5'" in told
    assert "row_id must name an accepted row, got 'P1'" in told
    assert sum(reason.startswith("row is no JSON") for reason in told) == 2
    assert counts(bring_in(config)) == (0, 0, 0)


def test_small_files_are_merged_and_a_follower_still_knows_what_it_saw(
    shop: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = shop(kind="csv", events=str(tmp_path / "in"))
    config = config.model_copy(
        update={"tables": config.tables.model_copy(update={"max_small_files": 3})}
    )
    for number in range(5):
        write_csv(tmp_path / "in", f"{number}.csv", parcel(2 * number), parcel(2 * number + 1))
    watch = Watch(looks=Looks(following=True))
    watch.looks.begin(2e9)
    assert counts(bring_in(config, watch)) == (10, 10, 0)
    tables = tables_of(config)
    live = live_files(DeltaTable(tables.folder("events")))
    assert [file.num_rows for file in live] == [10]
    assert sorted(tables.read("events")["parcel"].to_pylist()) == [f"P{n}" for n in range(10)]

    def refuse(*_: object) -> None:
        raise AssertionError("ids are read again although no row was appended")

    monkeypatch.setattr(uniqueness, "read_seen", refuse)
    write_csv(tmp_path / "in", "5.csv", parcel(3), parcel(10))
    watch.looks.begin(2e9 + 10)
    assert counts(bring_in(config, watch)) == (2, 1, 1)


def test_an_outcome_that_comes_before_its_row_is_taken_up_with_it(
    shop: Open, tmp_path: Path
) -> None:
    write_csv(tmp_path / "in", "0.csv", parcel(0))
    (tmp_path / "out").mkdir()
    told = [f"P{number},1,false,2024-03-20T00:00:00Z" for number in range(3)]
    (tmp_path / "out" / "0.csv").write_text("\n".join(["row_id,label,void,known_at", *told]))
    config = shop(kind="csv", events=str(tmp_path / "in"), labels=str(tmp_path / "out"))
    first = bring_in(config)
    assert (first.num_labels, first.num_labels_quarantined, first.num_readmitted) == (1, 2, 0)
    write_csv(tmp_path / "in", "1.csv", parcel(1))
    second = bring_in(config)
    assert (second.num_in, second.num_labels_in, second.num_readmitted) == (1, 0, 1)
    assert second.report is not None
    report = read_report(Path(second.report))
    assert (report.rows.num_in, report.outcomes.num_in, report.num_readmitted) == (1, 0, 1)
    labels = tables_of(config).read("labels")
    assert sorted(labels["row_id"].to_pylist()) == ["P0", "P1"]
    assert bring_in(config).num_readmitted == 0


def test_a_feed_that_falls_silent_is_told_once(
    shop: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_csv(tmp_path / "in", "0.csv", parcel(27))
    config = shop(kind="csv", events=str(tmp_path / "in"))
    config = config.model_copy(update={"intake": IntakeConfig(max_age_hours=24 * 5)})
    watch, begun = Watch(looks=Looks(following=True)), datetime(2024, 3, 30, tzinfo=UTC)

    def look(days: float) -> str:
        caplog.clear()
        watch.looks.begin(2e9 + days)
        result = ingest(config, tables_of(config), at=begun + timedelta(days=days), watch=watch)
        return " ".join([*caplog.messages, "report" if result.report else "nothing"])

    assert look(0) == "report"
    assert look(1) == "nothing"
    assert "the newest row, of 2024-03-28T10:00:00+00:00, is 134.0 hours old" in look(4)
    assert look(5) == "nothing"
    write_csv(tmp_path / "in", "1.csv", {**parcel(100), "promised": "2024-04-04T12:00:00Z"})
    assert look(6) == "ingest of flights: its newest row is fresh again report"
    assert look(7) == "nothing"
    assert "hours old" in look(12)


def test_silence_is_noticed_beside_what_was_refused_and_while_the_store_is_away(
    shop: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, begun = str(tmp_path / "source"), datetime(2024, 3, 30, tzinfo=UTC)
    write_deltalake(source, pa.Table.from_pylist([parcel(27)]))
    policy = IntakeConfig(max_age_hours=24 * 5, stale="stop", stop_above_share=0.5)
    config = shop(kind="delta", events=source).model_copy(update={"intake": policy})
    watch = Watch(looks=Looks(following=True))

    def look(days: float) -> tuple[str, str]:
        caplog.clear()
        watch.looks.begin(2e9 + days)
        try:
            result = ingest(config, tables_of(config), at=begun + timedelta(days=days), watch=watch)
            end = "report" if result.report else "nothing"
        except (IngestStopped, SourceError) as error:
            end = type(error).__name__
        return end, " ".join(caplog.messages)

    assert look(0) == ("report", "")
    # What is refused is fresh, and stays out.
    bad = {**parcel(28, -1.0), "promised": "2024-04-01T10:00:00Z"}
    write_deltalake(source, pa.Table.from_pylist([bad]), mode="append")
    assert look(3)[0] == "IngestStopped"
    end, told = look(6)
    assert "the newest row, of 2024-03-28T10:00:00+00:00, is 182.0 hours old" in told
    assert (end, watch.silence is not None) == ("report", True)
    assert look(7) == ("nothing", "")
    good = [{**parcel(n), "promised": "2024-04-06T10:00:00Z"} for n in (29, 30, 31)]
    write_deltalake(source, pa.Table.from_pylist(good), mode="append")
    assert look(8) == ("report", "ingest of flights: its newest row is fresh again")
    Path(source).rename(tmp_path / "away")
    assert look(9) == ("SourceError", "")
    end, told = look(13)
    assert (end, watch.silence is not None) == ("SourceError", True)
    assert "the newest row, of 2024-04-06T10:00:00+00:00, is" in told
    assert look(14) == ("SourceError", "")


def test_deliveries_are_committed_in_their_order(shop: Open, tmp_path: Path) -> None:
    # The first file takes longest, and the last ones repeat a row of it.
    many = [parcel(number) for number in range(20_000)]
    write_csv(tmp_path / "in", "0.csv", *many)
    for number in range(1, 6):
        write_csv(tmp_path / "in", f"{number}.csv", parcel(7), parcel(20_000 + number))
    result = bring_in(shop(kind="csv", events=str(tmp_path / "in")))
    assert [Path(each.name).name for each in result.deliveries] == [f"{n}.csv" for n in range(6)]
    assert [each.num_quarantined for each in result.deliveries] == [0, 1, 1, 1, 1, 1]


def test_a_delta_table_is_followed_through_its_versions(shop: Open, tmp_path: Path) -> None:
    path = str(tmp_path / "source")

    def add(*numbers: int, weight: float = 2.5) -> None:
        rows = [parcel(n, weight) for n in numbers]
        write_deltalake(path, pa.Table.from_pylist(rows), mode="append")

    config = shop(kind="delta", events=path)
    add(0, 1)
    add(2)
    assert counts(bring_in(config.model_copy(update={"source": pinned(config, 0)}))) == (2, 2, 0)
    assert counts(bring_in(config)) == (1, 1, 0)
    assert counts(bring_in(config)) == (0, 0, 0)
    DeltaTable(path).optimize.compact()
    assert counts(bring_in(config)) == (0, 0, 0)
    add(1, 3)
    assert counts(bring_in(config)) == (2, 1, 1)
    assert tables_of(config).read("events").num_rows == 4


def pinned(config: Config, version: int) -> SourceConfig:
    return config.source.model_copy(update={"version": version})


def test_an_sql_table_is_followed_and_an_ingest_cut_off_is_completed(
    shop: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    monkeypatch.setenv("SHOP_DATABASE", url)
    engine = create_engine(url)

    def add(*numbers: int, weight: object = 2.5) -> None:
        with engine.begin() as connection:
            for n in numbers:
                row = {"n": n, **parcel(n, weight)}
                connection.execute(
                    text("INSERT INTO parcels VALUES (:n, :parcel, :promised, :weight)"), row
                )

    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE parcels (n INTEGER, parcel, promised, weight)"))
    add(0, 1, 2)
    add(3, weight="heavy")
    config = shop(kind="sql", events="parcels", url_variable="SHOP_DATABASE", cursor="n")
    assert counts(bring_in(config)) == (4, 3, 1)
    assert counts(bring_in(config)) == (0, 0, 0)
    # Cut off after the quarantine was committed, and before the rows were.
    shutil.rmtree(config.tables_path / "events")
    add(4)
    add(5, weight=-1)
    result = bring_in(config)
    assert [each.num_in for each in result.deliveries] == [4, 2]
    assert sorted(tables_of(config).read("events")["parcel"].to_pylist()) == [
        "P0",
        "P1",
        "P2",
        "P4",
    ]
    assert reasons(config) == [
        "weight must be a number, got 'heavy'",
        "weight must be in 0..40, got -1.0",
    ]


def test_a_rewritten_file_brings_its_new_rows_and_is_reported(shop: Open, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    write_csv(folder, "a.csv", parcel(0), parcel(1))
    write_csv(folder, "b.csv", parcel(2))
    config = shop(kind="csv", events=str(folder))
    first = bring_in(config)
    assert [(each.name[-5:], each.num_in, each.rewritten) for each in first.deliveries] == [
        ("a.csv", 2, False),
        ("b.csv", 1, False),
    ]
    write_csv(folder, "a.csv", parcel(0), parcel(1), parcel(3))
    again = bring_in(config)
    (delivery,) = again.deliveries
    assert (delivery.rewritten, again.num_rewritten) == (True, 1)
    assert counts(again) == (3, 1, 2)
    assert set(reasons(config)) == {f"parcel was ingested before, got 'P{n}'" for n in (0, 1)}
    assert counts(bring_in(config)) == (0, 0, 0)
    # The old bytes under the old name are known: nothing of them comes again.
    write_csv(folder, "a.csv", parcel(0), parcel(1))
    assert counts(bring_in(config)) == (0, 0, 0)


def test_following_a_damaged_file_is_noted_and_the_others_come_in(
    shop: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    for name, number in (("a", 0), ("c", 1)):
        rows = [parcel(100 * number + n) for n in range(20)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet", compression="none")
    damaged = bytearray((folder / "c.parquet").read_bytes())
    damaged[4:150] = b"\xff" * 146
    (folder / "b.parquet").write_bytes(damaged)
    config = shop(kind="parquet", events=str(folder))
    watch = Watch(looks=Looks(following=True))
    watch.looks.begin(time.time())
    result = bring_in(config, watch)
    assert counts(result) == (40, 40, 0)
    (refused,) = result.refused
    assert "b.parquet: row group 0 cannot be read" in refused.problem
    watch.looks.begin(time.time())
    assert bring_in(config, watch).num_deliveries == 0


def test_an_ingest_that_is_stopped_keeps_what_it_has_and_the_next_goes_on(
    shop: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "rows"
    for number in range(4):
        write_csv(folder, f"{number}.csv", parcel(2 * number), parcel(2 * number + 1))
    config = shop(kind="csv", events=str(folder))
    done: list[int] = []
    watch = Watch(tell=lambda progress: done.append(progress.num_done), stop=lambda: 2 in done)
    assert counts(bring_in(config, watch)) == (4, 4, 0)
    assert counts(bring_in(config)) == (4, 4, 0)


def test_a_follower_takes_files_as_they_come_and_ends_cleanly(shop: Open, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    config = shop(kind="csv", events=str(folder), settle_seconds=0)
    file = tmp_path / "shop.yaml"
    file.write_text(show_config(config))
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    command = [sys.executable, "-m", "jobs.ingest", "--config", str(file), "--follow"]
    with subprocess.Popen(
        [*command, "--every", "0.3"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for number in range(3):
            write_csv(folder, f"z{9 - number}.csv", parcel(number), parcel(number + 50, -1))
            # Neither is whole yet.
            write_csv(folder, f".{number}.csv", parcel(99))
            write_csv(folder, f"{number}.csv.tmp", parcel(99))
            await_rows(config, number + 1, process)
        process.send_signal(signal.SIGINT)
        output, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    record = json.loads(output.splitlines()[-1])
    assert (record["num_in"], record["num_accepted"], record["num_quarantined"]) == (6, 3, 3)
    assert told.count("rows = ") == len({each["name"] for each in record["deliveries"]})
    ids = Counter(tables_of(config).read("events")["parcel"].to_pylist())
    assert ids == Counter(["P0", "P1", "P2"])


def await_rows(config: Config, number: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while tables_of(config).read("events", columns=["parcel"]).num_rows < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)

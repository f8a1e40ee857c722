"""Files and tables of an object store, over its own protocol, from a server of this machine.

Every test is asked of S3, of GCS and of Azure.
"""

import gzip
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from app.config import Config
from app.data import stores
from app.data.deliveries import Position, nowhere
from app.data.files import FileKind, Layout, divide_file, find_files, open_pieces, read_piece
from app.data.growing import new_files
from app.data.looks import Looks
from app.data.pieces import Piece, SourceError
from app.data.reading import rows_of_piece
from app.data.sources import open_source
from app.data.storage import find
from app.data.stores import shown
from app.sections import SourceConfig
from tests.object_stores import EVERY_STORE, STORES, ObjectStore

# Names of a kind that stores and disks allow, and that URIs must encode.
ODD = "rows/day 1/a+b%.csv", "rows/day 2/ä%20[1]#?.csv"


@pytest.fixture(scope="module", params=EVERY_STORE)
def running(request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    with STORES[request.param]() as store:
        yield store


@pytest.fixture
def store(running: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A store with an empty bucket, found as its own tools find it: by the environment."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    stores._connect.cache_clear()
    yield running
    stores._connect.cache_clear()
    running.clear()


def names_of(given: str, kind: FileKind = "csv") -> list[str]:
    return [shown(file.path).partition("shop/")[2] for file in find_files(given, kind)]


def ids_in(pieces: list[Piece]) -> list[str]:
    return [cell for piece in pieces for cell in read_piece(piece).table["id"].to_pylist()]


def divide(path: str, digest: str) -> list[Piece]:
    return divide_file(path, "csv", digest, Layout(["id"]))


@pytest.mark.parametrize("given", ["", "/", "/rows", "/rows/", "/rows/*/*.csv", "/**/day*/*.csv"])
def test_a_prefix_and_a_glob_name_files(store: ObjectStore, given: str) -> None:
    store.put(ODD[0], b"id\n1\n2\n")
    store.put(ODD[1], b"id\n3\n")
    for unfinished in ("rows/day 2/d.csv.tmp", "rows/day 2/_d.csv", "rows/_tmp/day/d.csv"):
        store.put(unfinished, b"id\n4\n")
    store.put("rows/day 2/d.parquet", b"id\n5\n")
    found = find_files(f"{store.root}{given}", "csv")
    assert [shown(file.path) for file in found] == [f"{store.root}/{name}" for name in ODD]
    read = [ids_in(open_pieces(file.path, "csv", ["id"])) for file in found]
    assert read == [["1", "2"], ["3"]]


@pytest.mark.parametrize("given", ["rows/day 1/a+b%25.csv", "rows/day%201/a%2Bb%25.csv"])
def test_a_name_names_one_file(store: ObjectStore, given: str) -> None:
    store.put(ODD[0], b"id\n1\n")
    store.put(f"{ODD[0]}.csv", b"id\n2\n")
    assert names_of(f"{store.root}/{given}") == [ODD[0]]


def test_globs_mean_what_they_mean_on_a_disk(store: ObjectStore) -> None:
    for name in ("in/a[1].csv", "in/a1.csv", "in/deep/a1.csv", "inn/a1.csv"):
        store.put(name, b"id\n1\n")
    assert names_of(f"{store.root}/in/*.csv") == ["in/a1.csv", "in/a[1].csv"]
    assert names_of(f"{store.root}/in/a[0-9].csv") == ["in/a1.csv"]
    assert names_of(f"{store.root}/in/a%5B1].csv") == ["in/a[1].csv"]
    assert names_of(f"{store.root}/in*/a1.csv") == ["in/a1.csv", "inn/a1.csv"]
    assert names_of(f"{store.root}/in/**/a1.csv") == ["in/a1.csv", "in/deep/a1.csv"]


def test_what_is_read_equals_what_was_written(store: ObjectStore, tmp_path: Path) -> None:
    table = pa.table({"id": [f"P{n}" for n in range(10)], "weight": [n / 7 for n in range(10)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    store.put("a.parquet", (tmp_path / "a.parquet").read_bytes())
    pieces = open_pieces(f"{store.root}/a.parquet", "parquet", table.column_names)
    assert [piece.first_position for piece in pieces] == [0, 4, 8]
    assert pa.concat_tables([read_piece(piece).table for piece in pieces]).equals(table)
    store.put("a.jsonl.gz", gzip.compress(b'{"id": "P0"}\n{"id": "P1"}\n'))
    (piece,) = open_pieces(f"{store.root}/a.jsonl.gz", "jsonl", ["id"])
    assert read_piece(piece).table.to_pydict() == {"__object": ['{"id": "P0"}', '{"id": "P1"}']}


def test_a_large_file_is_read_whole(store: ObjectStore, tmp_path: Path) -> None:
    # More than any of the clients asks for at once.
    lines = [f"{n:064d}" for n in range(300_000)]
    store.put("a.csv", "\n".join(["id", *lines, ""]).encode())
    assert ids_in(open_pieces(f"{store.root}/a.csv", "csv", ["id"])) == lines


def test_a_damaged_file_is_refused_by_its_name(store: ObjectStore, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": list(range(1000))}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    store.put("day 1/a.parquet", content[: len(content) // 2])
    store.put("day 1/b.parquet", b"")
    (cut, empty) = find_files(f"{store.root}/day 1", "parquet")
    with pytest.raises(SourceError) as caught:
        open_pieces(cut.path, "parquet", ["id"])
    assert str(caught.value).startswith(f"{store.root}/day 1/a.parquet: no whole parquet file")
    with pytest.raises(SourceError, match=r"day 1/b\.parquet: the file is empty"):
        open_pieces(empty.path, "parquet", ["id"])


def test_a_file_that_is_cut_off_after_it_was_opened_is_refused(
    store: ObjectStore, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"id": list(range(1000))}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    store.put("a.parquet", content)
    (piece,) = open_pieces(f"{store.root}/a.parquet", "parquet", ["id"])
    store.put("a.parquet", content[:-20])
    with pytest.raises(SourceError, match=f"{store.root}/a.parquet: no whole parquet file"):
        read_piece(piece)


def test_a_rewritten_file_is_noticed(store: ObjectStore) -> None:
    store.put("in/a.csv", b"id\n1\n")
    for given in ("/in", "/in/a.csv"):
        (found,) = find_files(f"{store.root}{given}", "csv")
        delivery = Looks().open(found, divide)
        assert delivery is not None
        # Listed or asked for, a file has the same size and time.
        delivery.refuse_changed()
    store.put("in/a.csv", b"id\n1\n2\n")
    with pytest.raises(SourceError, match=r"/in/a\.csv: changed while it was read"):
        delivery.refuse_changed()
    (again,) = find_files(f"{store.root}/in", "csv")
    second = Looks().open(again, divide)
    assert second is not None
    assert (second.digest != delivery.digest, second.place) == (True, delivery.place)
    # Some stores keep times to the second.
    time.sleep(1.1)
    store.put("in/a.csv", b"id\n1\n3\n")
    with pytest.raises(SourceError, match=r"/in/a\.csv: changed while it was read"):
        second.refuse_changed()


def test_a_follower_takes_new_and_rewritten_files_once_they_have_settled(
    store: ObjectStore,
) -> None:
    looks = Looks(following=True, settle_seconds=5)
    store.put("in/b.csv", b"id\n1\n")
    (first,) = find(f"{store.root}/in", (".csv",))
    noon = first.modified / 1e9

    def taken(now: float) -> list[list[str]]:
        looks.begin(now)
        opened = [looks.open(file, divide) for file in find(f"{store.root}/in", (".csv",))]
        return [ids_in(list(each.pieces)) for each in opened if each is not None]

    assert taken(noon + 1) == []
    assert looks.waiting == [f"{store.root}/in/b.csv"]
    assert taken(noon + 60) == [["1"]]
    store.put("in/a.csv", b"id\n2\n")
    store.put("in/b.csv", b"id\n1\n3\n")
    store.put("in/c.csv", b"number\n")
    assert taken(noon + 600) == [["2"], ["1", "3"]]
    assert [refused.name for refused in looks.refused] == [f"{store.root}/in/c.csv"]
    # A file that is bad again and again is left until it changes.
    told = []
    for minute in range(1, 7):
        assert taken(noon + 600 + 60 * minute) == [["2"], ["1", "3"]]
        told.append(len(looks.refused))
    assert told == [1, 1, 1, 1, 0, 0]
    store.put("in/c.csv", b"id\n4\n")
    assert taken(noon + 3600) == [["2"], ["1", "3"], ["4"]]


def test_a_follower_reads_a_file_again_when_the_store_was_away(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(following=True)
    store.put("in/a.csv", b"id\n1\n")
    (found,) = find(f"{store.root}/in", (".csv",))

    def opened(environment: dict[str, str]) -> bool:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        stores._connect.cache_clear()
        looks.begin(found.modified / 1e9 + 60)
        return looks.open(found, divide) is not None

    monkeypatch.setattr(stores, "RETRY_SECONDS", 1)
    assert not opened(store.nowhere)
    assert [refused.name for refused in looks.refused] == [f"{store.root}/in/a.csv"]
    assert opened(store.environment)


def test_a_delta_table_is_read_at_a_version_and_followed(
    store: ObjectStore, tmp_path: Path
) -> None:
    folder, place = tmp_path / "table", f"{store.root}/tables/my table"

    def add(*ids: str) -> None:
        # A partition whose folder must be encoded, twice in the log.
        rows = pa.table({"id": ids, "day": ["1+1 %"] * len(ids)})
        write_deltalake(str(folder), rows, mode="append", partition_by=["day"])
        store.copy(folder, "tables/my table")

    def read(version: int | None, done: int | None = None) -> tuple[list[list[str]], int]:
        def position(_key: str) -> Position:
            return Position(0, done, None)

        deliveries, (_, reached) = new_files(
            place, version, Layout(["id", "day"]), nowhere if done is None else position
        )
        parts = [
            rows.table for each in deliveries for p in each.pieces for rows in rows_of_piece(p)
        ]
        assert {day for part in parts for day in part["day"].to_pylist()} <= {"1+1 %"}
        return sorted(part["id"].to_pylist() for part in parts), reached

    add("a")
    add("b", "c")
    assert read(None) == ([["a"], ["b", "c"]], 1)
    assert read(0) == ([["a"]], 0)
    assert read(None, done=1) == ([], 1)
    add("d")
    DeltaTable(str(folder)).create_checkpoint()
    store.copy(folder, "tables/my table")
    assert read(None, done=1) == ([["d"]], 2)
    assert read(None) == ([["a"], ["b", "c"], ["d"]], 2)


def test_what_is_not_there_is_a_source_error_of_one_line(store: ObjectStore) -> None:
    with pytest.raises(SourceError, match=f"^{store.root}/nothing: no such csv file"):
        find_files(f"{store.root}/nothing", "csv")
    with pytest.raises(SourceError, match=f"^{store.root}/a.csv: no such file"):
        open_pieces(f"{store.root}/a.csv", "csv", ["id"])
    elsewhere = f"{store.root.removesuffix('shop')}elsewhere"
    with pytest.raises(SourceError, match=f"^{elsewhere}/rows: ") as caught:
        find_files(f"{elsewhere}/rows", "csv")
    assert one_line(caught.value)
    with pytest.raises(SourceError, match=f"^{elsewhere}/table: ") as caught:
        new_files(f"{elsewhere}/table", None, Layout(["id"]), nowhere)
    assert one_line(caught.value)
    with pytest.raises(SourceError, match=f"^{store.root}/table: no such Delta table"):
        new_files(f"{store.root}/table", None, Layout(["id"]), nowhere)


def test_a_follower_waits_for_the_first_file_and_not_for_a_bucket(
    store: ObjectStore, flights: Config
) -> None:
    def look(events: str) -> int:
        source = SourceConfig(kind="csv", events=events)
        config = flights.model_copy(update={"source": source})
        return len(open_source(config, looks=Looks(following=True)).deliveries)

    assert look(f"{store.root}/not yet/*.csv") == 0
    with pytest.raises(SourceError, match="elsewhere"):
        look(f"{store.root.removesuffix('shop')}elsewhere/*.csv")


def test_a_store_that_is_away_is_a_source_error_of_one_line(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store.nowhere.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(stores, "RETRY_SECONDS", 1)
    stores._connect.cache_clear()
    with pytest.raises(SourceError, match=f"^{store.root}/rows: .*onnect") as caught:
        find_files(f"{store.root}/rows", "csv")
    assert one_line(caught.value)
    with pytest.raises(SourceError, match=f"^{store.root}/table: .*onnect") as caught:
        new_files(f"{store.root}/table", None, Layout(["id"]), nowhere)
    assert one_line(caught.value)


def one_line(error: Exception) -> bool:
    return "\n" not in str(error) and "\x1b" not in str(error) and len(str(error)) < 300

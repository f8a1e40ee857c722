"""Files of an object store, over S3's own protocol, from a server of this machine."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from app.data import storage
from app.data.deliveries import nowhere
from app.data.files import Layout, find_files, open_pieces, read_piece
from app.data.growing import new_files
from app.data.looks import Looks
from app.data.pieces import SourceError
from app.data.sources import rows_of_piece

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pafs.S3FileSystem]:
    """A bucket of files; the store is found as its own tools find it, by the environment."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    storage._store.cache_clear()
    store = pafs.S3FileSystem(
        endpoint_override=server, allow_bucket_creation=True, allow_bucket_deletion=True
    )
    store.create_dir("shop")
    yield store
    storage._store.cache_clear()
    store.delete_dir("shop")


def put(store: pafs.S3FileSystem, path: str, content: bytes) -> None:
    with store.open_output_stream(path) as stream:
        stream.write(content)


@pytest.mark.parametrize("given", ["s3://shop/rows", "s3://shop/rows/", "s3://shop/rows/*/*.csv"])
def test_a_prefix_and_a_glob_name_files(bucket: pafs.S3FileSystem, given: str) -> None:
    put(bucket, "shop/rows/day 1/a+b%.csv", b"id\n1\n2\n")
    put(bucket, "shop/rows/day 2/c.csv", b"id\n3\n")
    put(bucket, "shop/rows/day 2/d.csv.tmp", b"id\n4\n")
    put(bucket, "shop/other/e.csv", b"id\n5\n")
    found = find_files(given, "csv")
    assert [storage.shown(file.path) for file in found] == [
        "s3://shop/rows/day 1/a+b%.csv",
        "s3://shop/rows/day 2/c.csv",
    ]
    read = [read_piece(open_pieces(file.path, "csv", ["id"])[0]) for file in found]
    assert [rows.table["id"].to_pylist() for rows in read] == [["1", "2"], ["3"]]


def test_parquet_is_read_by_row_groups(bucket: pafs.S3FileSystem) -> None:
    table = pa.table({"id": [f"P{n}" for n in range(10)]})
    pq.write_table(table, "shop/a.parquet", filesystem=bucket, row_group_size=4)
    pieces = open_pieces("s3://shop/a.parquet", "parquet", ["id"])
    assert [piece.first_position for piece in pieces] == [0, 4, 8]
    assert pa.concat_tables([read_piece(piece).table for piece in pieces]).equals(table)


def test_a_delta_table_is_read_where_it_is(bucket: pafs.S3FileSystem, tmp_path: Path) -> None:
    for ids in (["a"], ["b"]):
        write_deltalake("s3://shop/table", pa.table({"id": ids}), mode="append")
    deliveries, (_, reached) = new_files("s3://shop/table", None, Layout(["id"]), nowhere)
    read = [
        rows.table["id"].to_pylist()
        for delivery in deliveries
        for piece in delivery.pieces
        for rows in rows_of_piece(piece)
    ]
    assert (sorted(read), reached) == ([["a"], ["b"]], 1)


def test_a_missing_prefix_and_bucket_are_source_errors(bucket: pafs.S3FileSystem) -> None:
    with pytest.raises(SourceError, match="s3://shop/nothing: no such csv file"):
        find_files("s3://shop/nothing", "csv")
    with pytest.raises(SourceError, match="s3://elsewhere/rows"):
        find_files("s3://elsewhere/rows", "csv")


def test_a_rewritten_object_is_noticed(bucket: pafs.S3FileSystem) -> None:
    put(bucket, "shop/a.csv", b"id\n1\n")
    (found,) = find_files("s3://shop/a.csv", "csv")
    delivery = Looks().open(found, lambda path, _digest: open_pieces(path, "csv", ["id"]))
    assert delivery is not None
    delivery.refuse_changed()
    put(bucket, "shop/a.csv", b"id\n1\n2\n")
    with pytest.raises(SourceError, match=r"s3://shop/a\.csv: changed while it was read"):
        delivery.refuse_changed()

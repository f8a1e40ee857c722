"""The spool: what was appended survives the process, whole or not at all."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from app.contracts.rows import TIMESTAMP
from app.contracts.times import micros_of
from app.data.sealing import key_of
from app.security.keyring import FileKeyring
from app.security.secrets import SecretError
from app.serving.capture import Spool, SpoolRefused, locked
from app.serving.segments import CLOSED, HEAD, frame, number_of, read_segment

SCHEMAS = {
    "events": pa.schema([("id", pa.string()), ("value", pa.float64())]),
    "predictions": pa.schema([("id", pa.string())]),
}


def rows(*ids: str) -> dict[str, pa.Table]:
    return {
        "events": pa.table({"id": ids, "value": [1.0] * len(ids)}),
        "predictions": pa.table({"id": ids}),
    }


@pytest.fixture(params=["plain", "sealed"])
def keyring(request: pytest.FixtureRequest, tmp_path: Path) -> FileKeyring | None:
    return FileKeyring(tmp_path / "keys" / "ring.json") if request.param == "sealed" else None


@pytest.fixture
def spool(tmp_path: Path, keyring: FileKeyring | None) -> Spool:
    return Spool(tmp_path / "spool", SCHEMAS, keyring=keyring)


def closed_segments(spool: Spool) -> list[Path]:
    spool.roll()
    return sorted(spool.folder.glob(f"*{CLOSED}"))


def test_reading_rests_between_records_and_between_columns(
    spool: Spool, keyring: FileKeyring | None
) -> None:
    for _ in range(100):
        spool.append_values({"events": [["a", 1.0]]})
    [path] = closed_segments(spool)
    rests: list[int] = []
    segment = read_segment(path, keyring, lambda: rests.append(1))
    assert segment.tables["events"].num_rows == 100
    assert len(rests) >= 100 + len(SCHEMAS["events"])


def test_a_segment_gives_back_what_was_appended_in_order(
    spool: Spool, keyring: FileKeyring | None
) -> None:
    spool.append(rows("a", "b"))
    spool.append(rows("c"))

    [path] = closed_segments(spool)
    segment = read_segment(path, keyring)

    assert segment.tables["events"]["id"].to_pylist() == ["a", "b", "c"]
    assert segment.tables["events"].schema.equals(SCHEMAS["events"])
    assert segment.tables["predictions"]["id"].to_pylist() == ["a", "b", "c"]
    assert (segment.torn_bytes, segment.damaged) == (0, False)
    assert spool.captured == {"events": 3, "predictions": 3}


def test_plain_values_and_tables_come_back_alike_and_in_order(
    tmp_path: Path, keyring: FileKeyring | None
) -> None:
    moment = datetime(2013, 4, 1, 6, 0, 0, 123456, tzinfo=UTC)
    schema = pa.schema(
        [("id", pa.string()), ("value", pa.float64()), ("at", TIMESTAMP), ("count", pa.int64())]
    )
    given = [
        ["tail \u00e9\u2028\U0001f6eb", 0.1, moment, 2**53 - 1],
        ["", 5e-324, moment, 0],
        ["x", -1.7976931348623157e308, None, None],
        ["y", None, moment, -1],
    ]
    spool = Spool(tmp_path / "spool", {"rows": schema}, keyring=keyring)
    for row in given:
        columns = zip(row, schema.types, strict=True)
        arrays = [pa.array([cell], kind) for cell, kind in columns]
        spool.append({"rows": pa.Table.from_arrays(arrays, schema=schema)})
        plain = [row[0], row[1], None if row[2] is None else micros_of(moment), row[3]]
        spool.append_values({"rows": [plain, plain]})

    [path] = closed_segments(spool)
    table = read_segment(path, keyring).tables["rows"]

    assert table.schema.equals(schema)
    assert [list(row.values()) for row in table.to_pylist()] == [r for r in given for _ in range(3)]
    assert spool.captured == {"rows": 12}


def test_rows_are_on_disk_before_append_returns(spool: Spool, keyring: FileKeyring | None) -> None:

    spool.append(rows("a"))

    [path] = spool.folder.glob("*.open")
    assert read_segment(path, keyring).tables["predictions"]["id"].to_pylist() == ["a"]


def test_a_torn_end_is_left_out_at_every_length_and_never_splits_a_record(
    spool: Spool, keyring: FileKeyring | None
) -> None:
    spool.append(rows("a"))
    [first] = spool.folder.glob("*.open")
    whole = first.stat().st_size
    spool.append(rows("b"))
    [path] = closed_segments(spool)
    content = path.read_bytes()

    for length in range(whole, len(content)):
        path.write_bytes(content[:length])
        segment = read_segment(path, keyring)
        assert segment.tables["events"]["id"].to_pylist() == ["a"]
        assert segment.tables["predictions"]["id"].to_pylist() == ["a"]
        assert segment.torn_bytes == length - whole
        assert not segment.damaged


def test_a_beginning_that_is_torn_at_any_length_holds_nothing_and_is_no_damage(
    spool: Spool, keyring: FileKeyring | None
) -> None:
    spool.append(rows("a"))
    [path] = closed_segments(spool)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        segment = read_segment(path, keyring)
        assert segment.tables == {}
        assert 0 <= segment.torn_bytes <= length
        assert not segment.damaged


def test_a_flipped_bit_is_damage_and_not_a_row(spool: Spool, keyring: FileKeyring | None) -> None:
    spool.append(rows("a"))
    [first] = spool.folder.glob("*.open")
    whole = first.stat().st_size
    spool.append(rows("b"))
    [path] = closed_segments(spool)
    content = bytearray(path.read_bytes())
    content[whole + 40] ^= 1
    path.write_bytes(content)

    segment = read_segment(path, keyring)

    assert segment.damaged
    assert segment.tables["events"]["id"].to_pylist() == ["a"]


def test_segments_roll_by_size_and_number_upwards(
    tmp_path: Path, keyring: FileKeyring | None
) -> None:
    spool = Spool(tmp_path / "spool", SCHEMAS, max_segment_mb=0.0001, keyring=keyring)
    for name in "abc":
        spool.append(rows(name))

    paths = closed_segments(spool)

    assert [number_of(path) for path in paths] == [1, 2, 3]
    assert [read_segment(path, keyring).tables["events"]["id"].to_pylist() for path in paths] == [
        ["a"],
        ["b"],
        ["c"],
    ]


def test_a_disk_that_takes_half_a_record_keeps_none_of_it(
    spool: Spool, keyring: FileKeyring | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.append(rows("a"))
    write = os.write

    def fill_the_disk(file: int, content: bytes) -> int:
        monkeypatch.setattr(os, "write", refuse)
        return write(file, bytes(content)[:50])

    def refuse(file: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fill_the_disk)
    with pytest.raises(SpoolRefused, match="No space left on device; free space"):
        spool.append(rows("b"))
    monkeypatch.setattr(os, "write", write)
    spool.append(rows("c"))

    segments = [read_segment(path, keyring) for path in closed_segments(spool)]
    assert [segment.tables["events"]["id"].to_pylist() for segment in segments] == [["a"], ["c"]]
    assert [segment.torn_bytes for segment in segments] == [0, 0]
    assert spool.captured["events"] == 2


def test_a_closed_spool_refuses_rows(spool: Spool) -> None:
    spool.close()

    with pytest.raises(SpoolRefused, match="closed"):
        spool.append(rows("a"))


def test_the_folder_is_locked_while_its_owner_lives(spool: Spool) -> None:
    with pytest.raises(BlockingIOError), locked(spool.folder / "lock", wait=False):
        pass

    spool.close()

    with locked(spool.folder / "lock", wait=False):
        pass


@pytest.fixture
def ring(tmp_path: Path) -> FileKeyring:
    return FileKeyring(tmp_path / "keys" / "ring.json")


def frames_of(content: bytes) -> list[bytes]:
    """Take a segment apart into its frames: key, header, one for each append."""
    frames, position = [], 0
    while position < len(content):
        _, length, _ = HEAD.unpack_from(content, position)
        frames.append(content[position : position + HEAD.size + length])
        position += HEAD.size + length
    return frames


def sealed_segment(root: Path, ring: FileKeyring) -> Path:
    spool = Spool(root, SCHEMAS, keyring=ring)
    for name in ("canary a", "canary b", "canary c"):
        spool.append(rows(name))
    [path] = closed_segments(spool)
    return path


def test_a_sealed_segment_shows_nothing_and_names_its_key(
    tmp_path: Path, ring: FileKeyring
) -> None:
    path = sealed_segment(tmp_path / "spool", ring)
    assert not any(word in path.read_bytes() for word in (b"canary", b"value", b"events"))
    assert key_of(path.name) == ring.current()
    with pytest.raises(SecretError, match="no keyring was given"):
        read_segment(path)
    other = FileKeyring(tmp_path / "other.json")
    other.current()
    with pytest.raises(SecretError, match="has no master key"):
        read_segment(path, other)


@pytest.mark.parametrize(
    ("order", "left"),
    [
        ([0, 1, 3, 2, 4], []),
        ([0, 1, 2, 2, 3], ["canary a"]),
        ([0, 1, 2, 4], ["canary a"]),
        ([0, 1, 3, 4], []),
    ],
    ids=["swapped", "repeated", "left out", "without the first"],
)
def test_sealed_records_that_are_not_in_their_order_are_damage(
    tmp_path: Path, ring: FileKeyring, order: list[int], left: list[str]
) -> None:
    path = sealed_segment(tmp_path / "spool", ring)
    frames = frames_of(path.read_bytes())
    assert len(frames) == 5
    path.write_bytes(b"".join(frames[place] for place in order))
    segment = read_segment(path, ring)
    assert segment.damaged
    assert [row["id"] for row in segment.tables.get("events", rows()["events"]).to_pylist()] == left


def test_a_record_of_another_segment_and_one_that_was_framed_anew_do_not_open(
    tmp_path: Path, ring: FileKeyring
) -> None:
    path, other = (sealed_segment(tmp_path / name, ring) for name in "ab")
    frames, foreign = frames_of(path.read_bytes()), frames_of(other.read_bytes())
    altered = bytearray(frames[3][HEAD.size :])
    altered[5] ^= 1
    for third in (foreign[3], frame(bytes(altered)), frame(b"no seal at all")):
        path.write_bytes(b"".join([*frames[:3], third, frames[4]]))
        segment = read_segment(path, ring)
        assert segment.damaged
        assert segment.tables["events"]["id"].to_pylist() == ["canary a"]


def test_every_segment_has_a_key_of_its_own_and_the_newest_master_key(
    tmp_path: Path, ring: FileKeyring
) -> None:
    spool = Spool(tmp_path / "spool", SCHEMAS, keyring=ring)
    spool.append(rows("a"))
    old = ring.current()
    ring.renew()
    spool.append(rows("b"))
    spool.roll()
    spool.append(rows("c"))
    paths = closed_segments(spool)
    assert [key_of(path.name) for path in paths] == [old, ring.current()]
    keys = {frames_of(path.read_bytes())[0] for path in paths}
    assert len(keys) == 2
    found = [read_segment(path, ring).tables["events"]["id"].to_pylist() for path in paths]
    assert found == [["a", "b"], ["c"]]


def test_without_a_key_nothing_is_kept_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "part-0.sealed-k1x0.parquet").touch()
    lost = FileKeyring(tmp_path / "keys" / "ring.json", sealed=[tmp_path / "tables"])
    spool = Spool(tmp_path / "spool", SCHEMAS, keyring=lost)
    with pytest.raises(SpoolRefused, match="restore the keyring"):
        spool.append(rows("a"))
    assert [path.name for path in spool.folder.iterdir()] == ["lock"]
    assert spool.captured == {}


def test_a_spool_takes_no_more_than_its_bound_and_gives_up_nothing_for_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", SCHEMAS, max_segment_mb=0.002, max_mb=0.02)
    kept = []
    while spool.num_bytes < 0.95 * 0.02 * 2**20:
        kept.append(f"row-{len(kept)}")
        spool.append(rows(kept[-1]))
    with pytest.raises(SpoolRefused, match=r"raise serving\.capture\.max_spool_mb") as refused:
        spool.append(rows(*map(str, range(200))))
    assert refused.value.reason == "spool_full"
    assert 0.9 * 0.02 * 2**20 < spool.num_bytes <= 0.02 * 2**20

    paths = closed_segments(spool)
    tables = [read_segment(path).tables["events"]["id"].to_pylist() for path in paths]

    assert [name for names in tables for name in names] == kept
    assert sum(path.stat().st_size for path in paths) == spool.num_bytes
    paths[0].unlink()
    spool.recount()
    spool.append(rows("after"))
    spool.left_bytes = 2**20
    with pytest.raises(SpoolRefused, match="wait to be shipped"):
        spool.append(rows("beside what a dead process left"))


def test_a_disk_that_takes_nothing_is_tried_in_vain_and_leaves_no_file_behind(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    for _ in range(5):
        with pytest.raises(SpoolRefused) as refused:
            spool.append(rows("a"))
        assert refused.value.reason == "disk_full"
    monkeypatch.undo()

    assert [path.name for path in spool.folder.iterdir()] == ["lock"]
    spool.append(rows("b"))
    assert len(closed_segments(spool)) == 1


def test_another_fault_of_the_disk_has_another_reason(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, content: bytes) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(SpoolRefused, match="Input/output error; mend this disk") as refused:
        spool.append(rows("a"))
    assert refused.value.reason == "not_writable"

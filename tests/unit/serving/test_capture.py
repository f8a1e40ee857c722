"""The spool: what was appended survives the process, whole or not at all."""

import errno
import os
from pathlib import Path

import pyarrow as pa
import pytest

from app.serving.capture import CLOSED, Spool, SpoolRefused, locked, read_segment

SCHEMAS = {
    "events": pa.schema([("id", pa.string()), ("value", pa.float64())]),
    "predictions": pa.schema([("id", pa.string())]),
}


def rows(*ids: str) -> dict[str, pa.Table]:
    return {
        "events": pa.table({"id": ids, "value": [1.0] * len(ids)}),
        "predictions": pa.table({"id": ids}),
    }


def closed_segments(spool: Spool) -> list[Path]:
    spool.roll()
    return sorted(spool.folder.glob(f"*{CLOSED}"))


def test_a_segment_gives_back_what_was_appended_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SCHEMAS)
    spool.append(rows("a", "b"))
    spool.append(rows("c"))

    [path] = closed_segments(spool)
    segment = read_segment(path)

    assert segment.tables["events"]["id"].to_pylist() == ["a", "b", "c"]
    assert segment.tables["events"].schema.equals(SCHEMAS["events"])
    assert segment.tables["predictions"]["id"].to_pylist() == ["a", "b", "c"]
    assert (segment.torn_bytes, segment.damaged) == (0, False)
    assert spool.captured == {"events": 3, "predictions": 3}


def test_rows_are_on_disk_before_append_returns(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SCHEMAS)

    spool.append(rows("a"))

    [path] = spool.folder.glob("*.open")
    assert read_segment(path).tables["predictions"]["id"].to_pylist() == ["a"]


def test_a_torn_end_is_left_out_at_every_length_and_never_splits_a_record(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SCHEMAS)
    spool.append(rows("a"))
    [first] = spool.folder.glob("*.open")
    whole = first.stat().st_size
    spool.append(rows("b"))
    [path] = closed_segments(spool)
    content = path.read_bytes()

    for length in range(whole, len(content)):
        path.write_bytes(content[:length])
        segment = read_segment(path)
        assert segment.tables["events"]["id"].to_pylist() == ["a"]
        assert segment.tables["predictions"]["id"].to_pylist() == ["a"]
        assert segment.torn_bytes == length - whole
        assert not segment.damaged


def test_a_flipped_bit_is_damage_and_not_a_row(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SCHEMAS)
    spool.append(rows("a"))
    [first] = spool.folder.glob("*.open")
    whole = first.stat().st_size
    spool.append(rows("b"))
    [path] = closed_segments(spool)
    content = bytearray(path.read_bytes())
    content[whole + 40] ^= 1
    path.write_bytes(content)

    segment = read_segment(path)

    assert segment.damaged
    assert segment.tables["events"]["id"].to_pylist() == ["a"]


def test_segments_roll_by_size_and_number_upwards(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SCHEMAS, max_segment_mb=0.0001)
    for name in "abc":
        spool.append(rows(name))

    paths = closed_segments(spool)

    assert [int(path.stem) for path in paths] == [1, 2, 3]
    assert [read_segment(path).tables["events"]["id"].to_pylist() for path in paths] == [
        ["a"],
        ["b"],
        ["c"],
    ]


def test_a_disk_that_takes_half_a_record_keeps_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, SCHEMAS)
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

    segments = [read_segment(path) for path in closed_segments(spool)]
    assert [segment.tables["events"]["id"].to_pylist() for segment in segments] == [["a"], ["c"]]
    assert [segment.torn_bytes for segment in segments] == [0, 0]
    assert spool.captured["events"] == 2


def test_a_closed_spool_refuses_rows(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SCHEMAS)
    spool.close()

    with pytest.raises(SpoolRefused, match="closed"):
        spool.append(rows("a"))


def test_the_folder_is_locked_while_its_owner_lives(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SCHEMAS)
    with pytest.raises(BlockingIOError), locked(spool.folder / "lock", wait=False):
        pass

    spool.close()

    with locked(spool.folder / "lock", wait=False):
        pass

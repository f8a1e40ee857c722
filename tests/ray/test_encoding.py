"""Encoding files on a cluster: what one process would write, and on from where it was cut off."""

import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.config import load_config
from app.data import encoded
from app.data.features import Encoder, Statistics
from app.data.files import SourceError
from app.data.validation import validate
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key
from tests.serving_world import make_table

pytestmark = pytest.mark.ray


def test_files_are_encoded_as_one_process_would_and_a_second_run_does_only_what_is_missing(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.data.encoding import encode

    config = load_config("configs/flights.yaml", [f"workspace={tmp_path / 'workspace'}"])
    table = make_table(config.contract, 600)
    distance = np.where(np.arange(600) % 50 == 3, -1.0, table["distance"].to_numpy())
    place = table.column_names.index("distance")
    table = table.set_column(place, "distance", pa.array(distance))
    (tmp_path / "rows").mkdir()
    pq.write_table(table.slice(0, 400), tmp_path / "rows" / "a.parquet", row_group_size=150)
    pq.write_table(table.slice(400), tmp_path / "rows" / "b.parquet")
    rows, into = str(tmp_path / "rows"), tmp_path / "encoded"

    result = encode(config, rows, into)

    assert (result.num_in, result.num_encoded, result.num_quarantined) == (600, 588, 12)
    assert (result.num_pieces, result.num_pieces_found) == (4, 0)
    accepted = validate(
        table, config.contract, pseudonymiser=Pseudonymiser(pseudonym_key(config))
    ).accepted
    expected = Encoder.fit(Statistics.collect(accepted, config.contract), config.features)
    assert Path(result.encoder).read_bytes() == expected.to_json()
    files = sorted((into / "rows").iterdir())
    written = pa.concat_tables([pq.read_table(file) for file in files]).sort_by("flight_id")
    in_order = accepted.sort_by("flight_id")
    assert written["flight_id"].equals(in_order["flight_id"])
    for name, values in expected.columns(in_order).items():
        np.testing.assert_array_equal(written[name], values)

    kept, lost = files[:2]
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    again = encode(config, rows, into, Path(result.encoder))

    assert (again.num_in, again.num_pieces_found) == (600, 3)
    assert kept.stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="holds rows of another run"):
        encode(config, str(tmp_path / "rows" / "b.parquet"), into, Path(result.encoder))


def test_a_worker_that_is_killed_while_it_encodes_costs_no_row(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.data import encoding

    config = load_config("configs/flights.yaml", [f"workspace={tmp_path / 'workspace'}"])
    pq.write_table(make_table(config.contract, 300), tmp_path / "rows.parquet", row_group_size=50)
    marks = tmp_path / "killed"
    marks.mkdir()
    count, write = encoding._count, encoding._encode

    def dying_once(step: str, act: object, pieces: list[object], *arguments: object) -> object:
        mark = marks / step
        if not mark.exists():
            mark.touch()
            act(pieces[:1], *arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return act(pieces, *arguments)

    monkeypatch.setattr(encoding, "_count", lambda *given: dying_once("count", count, *given))
    monkeypatch.setattr(encoding, "_encode", lambda *given: dying_once("encode", write, *given))

    result = encoding.encode(config, str(tmp_path / "rows.parquet"), tmp_path / "encoded")

    assert sorted(mark.name for mark in marks.iterdir()) == ["count", "encode"]
    assert (result.num_in, result.num_encoded, result.num_pieces) == (300, 300, 6)
    names = [file.name for file in (tmp_path / "encoded" / "rows").iterdir()]
    assert encoded.count_rows((tmp_path / "encoded" / "rows").glob("*.parquet")) == 300
    assert not [name for name in names if name.startswith(".")]


def test_a_file_that_cannot_be_read_is_refused_in_its_own_words(
    ray_cluster: None, tmp_path: Path
) -> None:
    from app.data.encoding import encode

    config = load_config("configs/flights.yaml", [f"workspace={tmp_path / 'workspace'}"])
    path = tmp_path / "rows.parquet"
    pq.write_table(make_table(config.contract, 100), path, compression="none")
    content = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(0).column(0).dictionary_page_offset
    content[start : start + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"rows\.parquet: row group 0 cannot be read"):
        encode(config, str(path), tmp_path / "encoded")

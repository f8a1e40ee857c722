"""The benchmarks' own parts: what they count, and that contenders who differ are found out."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretBytes

from app.data.encoded import Work, count_pieces, encode_pieces
from app.data.features import Encoder
from app.data.inputs import find_pieces
from app.security.privacy import Pseudonymiser
from benchmarks.harness.contenders import ContenderFailed, run_round
from benchmarks.harness.costs import cpu_seconds, resident_mb, watched_memory
from benchmarks.preprocessing import data, with_polars, with_pyarrow, with_sklearn
from benchmarks.preprocessing.agreement import Disagreement, check

NUM_ROWS = 4000
BURN = "x = 0\nwhile __import__('time').process_time() < 0.5: x += 1"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    assert data.write_rows(folder, NUM_ROWS, seed=3) > 0
    return folder


@pytest.fixture(scope="module")
def ours(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("ours")
    config = data.config(into)
    work = Work(config.contract, Pseudonymiser(SecretBytes(b"0123456789abcdef")), into)
    pieces = find_pieces(str(rows), config.contract)
    encode_pieces(pieces, Encoder.fit(count_pieces(pieces, work), config.features), work)
    return into


@pytest.mark.parametrize("peer", [with_polars, with_pyarrow, with_sklearn])
def test_every_contender_does_the_same_work(
    rows: Path, ours: Path, tmp_path: Path, peer: object
) -> None:
    peer.act(str(rows), str(tmp_path / "peer"))
    check(ours, tmp_path / "peer", data.write_rows(rows, NUM_ROWS))


def test_a_contender_that_writes_other_codes_numbers_or_rows_is_found_out(
    rows: Path, ours: Path, tmp_path: Path
) -> None:
    num_bad = data.write_rows(rows, NUM_ROWS)
    with_pyarrow.act(str(rows), str(tmp_path))
    file = tmp_path / "rows" / "rows.parquet"
    written = pq.read_table(file)
    check(ours, tmp_path, num_bad)
    for name, change in (("route", np.int32(1)), ("age", np.float32(0.1))):
        values = written[name].to_numpy().copy()
        values[7] += change
        place = written.column_names.index(name)
        pq.write_table(written.set_column(place, name, pa.array(values)), file)
        with pytest.raises(Disagreement, match=name if name == "route" else "bins apart"):
            check(ours, tmp_path, num_bad)
    pq.write_table(written.slice(1), file)
    with pytest.raises(Disagreement, match="order_id"):
        check(ours, tmp_path, num_bad)
    with pytest.raises(Disagreement, match="refused"):
        check(ours, tmp_path, num_bad + 1)


def test_the_cpu_of_a_child_that_ended_stays_in_the_count() -> None:
    before = cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", BURN], check=True)
    # Linux counts in hundredths of a second.
    assert cpu_seconds(os.getpid()) - before > 0.45


def test_memory_that_was_given_back_is_still_seen_at_its_peak() -> None:
    with watched_memory(os.getpid()) as peak:
        held = np.ones(25_000_000)
        # A sample is taken ten times a second.
        subprocess.run([sys.executable, "-c", BURN], check=True)
        del held
    assert peak.peak_mb - peak.idle_mb > 150
    assert resident_mb(os.getpid()) < peak.peak_mb


def test_a_contender_is_warmed_and_its_start_is_counted_apart(rows: Path, tmp_path: Path) -> None:
    command = {"rows": str(rows), "into": str(tmp_path / "into")}
    cores = sorted(os.sched_getaffinity(0))[:1]
    module = "benchmarks.preprocessing.with_pyarrow"
    cost = run_round(module, command, command, cores, {})
    assert (tmp_path / "into" / "rows" / "rows.parquet").exists()
    assert 0 < cost.cpu_s < cost.start_cpu_s
    assert cost.peak_mb >= cost.idle_mb > 0


def test_a_contender_that_fails_is_not_timed(rows: Path, tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    command = {"rows": str(rows / "nothing"), "into": str(tmp_path)}
    with pytest.raises(ContenderFailed, match="with_pyarrow"):
        run_round("benchmarks.preprocessing.with_pyarrow", command, command, cores, {})

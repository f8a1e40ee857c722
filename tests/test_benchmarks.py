"""The benchmarks' own parts: what they count, and that contenders who differ are found out."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
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
from benchmarks.serving.bodies import requests_of
from benchmarks.serving.contenders import CONTENDERS
from benchmarks.serving.load import read_answer
from benchmarks.serving.plain import Model
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import Load, Measured, Wrong, one_round, running
from benchmarks.serving.world import World, make_world

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


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("serving"), num_rows=200)


def test_a_peers_plain_code_says_what_the_bundle_says(world: World) -> None:
    document = json.loads(world.requests.read_text())
    model = Model(world.bundle)
    each = [model.predict(row) for row in document["rows"]]
    np.testing.assert_allclose(each, document["probabilities"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.predict_many(document["rows"]), each, rtol=0, atol=1e-6)
    # An answer for the row beside would be found out.
    assert np.abs(np.diff(each)).min() > 1e-6


def test_no_id_is_sent_twice_and_bodies_keep_their_length(world: World) -> None:
    form = CONTENDERS["direct"].form(world, "json")
    requests = list(itertools.islice(requests_of(world.requests, form, 60, first_id=7), 5))
    heads, bodies = zip(*(each.content.split(b"\r\n\r\n") for each in requests), strict=True)
    ids = [row["flight_id"] for body in bodies for row in json.loads(body)["rows"]]
    assert len(set(ids)) == len(ids) == 300
    assert all(
        f"content-length: {len(b)}".encode() in h for h, b in zip(heads, bodies, strict=True)
    )
    # The fourth body begins again at the first row.
    assert requests[3].probabilities == requests[0].probabilities != requests[1].probabilities


@pytest.mark.parametrize(
    ("received", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}", None),
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n", None),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
            b"{}",
        ),
    ],
)
def test_an_answer_is_read_when_it_is_whole(received: bytes, body: bytes | None) -> None:
    answer = read_answer(received)
    assert (answer.body if answer else None) == body


def test_a_round_of_servers_is_measured_and_compared(world: World) -> None:
    results = Results()
    asgi, anchor = CONTENDERS["asgi"], CONTENDERS["fastapi"]
    [first, last] = one_round(asgi, anchor, world, [Load(2, 0.5)], slices=2)
    assert [number for number, *_ in (first, last)] == [0, 1]
    number, load, mine, theirs = last
    results.add(number, "asgi", load.callers, mine, theirs)
    assert results.median("asgi", 2) == mine
    assert results.median("fastapi", 2) == theirs
    assert min(mine.requests, theirs.cpu_us) > 0
    shown = results.ratio("cpu_us", "asgi", "fastapi", 2)
    assert shown == pytest.approx(mine.cpu_us / theirs.cpu_us, abs=1e-3)
    record = results.record()
    assert set(record) >= {
        *("vs_fastapi", "vs_serve_default", "vs_litserve", "vs_bentoml"),
        *("cpu_vs_fastapi", "p99_vs_fastapi"),
    }
    assert set(record["contenders"]["asgi"]["2"]) >= {"requests_per_s", "p50_ms", "p99_ms"}


def test_two_are_compared_through_the_anchor_beside_each() -> None:
    def measured(requests_per_s: float) -> Measured:
        return Measured(1, requests_per_s, requests_per_s, 1.0, 1.0, 1.0, 1.0, 0.0)

    results = Results()
    # The machine became twice as slow after ours was measured in the second round.
    for number, slower in ((0, 1.0), (1, 2.0), (2, 1.0)):
        results.add(number, "direct", 4, measured(60.0), measured(80.0))
        results.add(number, "litserve", 4, measured(30.0 / slower), measured(80.0 / slower))
    assert results.ratio("requests_per_s", "direct", "fastapi", 4) == 0.75
    assert results.ratio("requests_per_s", "direct", "litserve", 4) == 2.0
    assert results.ratio("requests_per_s", "direct", "bentoml", 4) is None


def test_an_answer_that_is_not_the_bundles_is_found_out(world: World, tmp_path: Path) -> None:
    document = json.loads(world.requests.read_text())
    document["probabilities"].reverse()
    altered = tmp_path / "requests.json"
    altered.write_text(json.dumps(document))
    with running(CONTENDERS["asgi"], world) as up:
        up.call(Load(1, 0.0))
        up.target["file"] = str(altered)
        with pytest.raises(Wrong, match="1 wrong"):
            up.call(Load(1, 0.0))


def test_what_is_not_installed_is_named() -> None:
    peer = replace(CONTENDERS["litserve"], package="mainspring_has_no_such_package")
    assert "mainspring_has_no_such_package" in str(peer.lacks(sys.executable))
    assert replace(peer, package="json").lacks(sys.executable) is None

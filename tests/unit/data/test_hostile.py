"""A corpus of hostile rows: each is accepted or quarantined with a reason, and none stops another.

Rows go the whole way that an ingest takes them, but for the cluster: from a file's bytes through
reading, judging and staging to what is settled.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes

from app.contracts.rows import Contract
from app.data.files import open_pieces, read_rows
from app.data.intake import FOREVER, Window, judge_block
from app.data.pieces import POSITION
from app.data.seen import hash_ids
from app.data.settling import Ids, Settled, settle_rows
from app.data.stagedfiles import StagedFiles
from app.data.staging import stage
from app.security.privacy import Pseudonymiser

SECRET = Pseudonymiser(SecretBytes(b"k" * 32))
NAMES = ("parcel", "promised", "sender", "depot", "weight", "rain")
GOOD = {
    "parcel": "P0",
    "promised": "2024-03-01T10:00:00Z",
    "sender": "Ada",
    "depot": "north",
    "weight": 2.5,
    "rain": None,
}
Take = Callable[[Path, str], Settled]


@pytest.fixture(scope="module")
def corpus() -> Iterator[Counter[str]]:
    """Counts of what the corpus came to; shown by `pytest -s`."""
    counts: Counter[str] = Counter()
    yield counts
    assert counts["rows"] == counts["accepted"] + counts["quarantined"]
    print("\nhostile corpus: " + ", ".join(f"{n:,} {what}" for what, n in counts.items()))


@pytest.fixture
def take(files: StagedFiles, parcels: Contract, corpus: Counter[str]) -> Take:
    """A function that takes a file in, all but the commit."""

    def make(path: Path, kind: str) -> Settled:
        blocks = []
        for piece in open_pieces(str(path), kind, NAMES):  # type: ignore[arg-type]
            for rows in read_rows(piece):
                block = rows.with_places()
                judged = judge_block(block, parcels, Window(FOREVER, {}), SECRET)
                hashes = hash_ids(judged.accepted["parcel"])
                blocks.append(stage(judged, [hashes], "d", block, files))
        settled = settle_rows("d", blocks, parcels, {"parcel": Ids()}, SECRET, files)
        corpus.update(
            files=1,
            rows=settled.num_in,
            accepted=settled.num_accepted,
            quarantined=settled.num_quarantined,
        )
        return settled

    return make


def positions(settled: Settled) -> tuple[list[int], list[int]]:
    kept = [p for part in settled.accepted() for p in part[POSITION].to_pylist()]
    refused = [p for part in settled.refused() for p in part["position"].to_pylist()]
    return sorted(kept), sorted(refused)


def assert_conserved(settled: Settled, num_rows: int) -> None:
    """Every row is there once; every refused one has a reason and can be shown."""
    kept, refused = positions(settled)
    assert sorted(kept + refused) == list(range(num_rows))
    assert settled.num_in == num_rows
    for part in settled.refused():
        assert all(part["reasons"].to_pylist())
        assert all(isinstance(json.loads(row), dict) for row in part["row"].to_pylist())


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["P0", "P1", "north", "2024-03-01T10:00:00+05:30", "9999-12-31T23:59:59Z"]),
    st.sampled_from(["0000-01-01T00:00:00Z", "\u202eabc", "a\x00b", "NaN", "1e999", "-0"]),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(0, 3), max_size=2),
)
ROWS = st.lists(
    st.dictionaries(st.sampled_from([*NAMES, "extra"]), CELLS, max_size=7).map(
        lambda changes: {**GOOD, **changes}
    ),
    max_size=12,
)
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(ROWS)
def test_json_lines_of_any_content_are_conserved(
    tmp_path: Path, take: Take, rows: list[dict[str, object]]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [{**GOOD, "parcel": "ok"}, *rows]))
    settled = take(path, "jsonl")
    assert_conserved(settled, len(rows) + 1)
    assert 0 in positions(settled)[0]


@QUICK
@given(st.lists(st.binary(max_size=60), max_size=12))
def test_lines_of_any_bytes_lose_no_good_row(
    tmp_path: Path, take: Take, lines: list[bytes]
) -> None:
    good = json.dumps(GOOD).encode()
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([good, *lines, good.replace(b"P0", b"P1")]) + b"\n")
    settled = take(path, "jsonl")
    kept, refused = positions(settled)
    assert kept == [0, settled.num_in - 1]
    assert len(refused) == settled.num_in - 2


@QUICK
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters='"'), max_size=30)))
def test_csv_of_any_text_is_conserved(tmp_path: Path, take: Take, lines: list[str]) -> None:
    path = tmp_path / "a.csv"
    good = "ok,2024-03-01T10:00:00Z,Ada,north,2.5,"
    text = "\n".join([",".join(NAMES), good, *lines]) + "\n"
    path.write_text(text, newline="")
    settled = take(path, "csv")
    assert_conserved(settled, settled.num_in)
    assert 0 in positions(settled)[0]


def column(name: str, values: list[object], kind: pa.DataType | None = None) -> pa.Table:
    """Good rows, numbered, with other values in one column."""
    table = pa.Table.from_pylist([{**GOOD, "parcel": f"P{i}"} for i in range(len(values))])
    changed = pa.array(values, kind) if kind else pa.array(values)
    return table.set_column(table.schema.get_field_index(name), name, changed)


ISO = datetime(2024, 3, 1, tzinfo=UTC)
MILLIS, MICROS = pa.timestamp("ms", tz="UTC"), pa.timestamp("us", tz="UTC")
COLUMNS = {
    "numbers that are none": ("weight", [1.0, np.nan, np.inf, -np.inf, 2.0], None, [0, 4]),
    "limits of int64": ("weight", [1, 2**63 - 1, -(2**63), 40], pa.int64(), [0, 3]),
    "beyond int64": ("weight", [2, 2**64 - 1], pa.uint64(), [0]),
    "decimals": ("weight", [Decimal("1.50"), Decimal("99.00")], None, [0]),
    "small floats": ("weight", [1.0, 5e-324, -0.0, 41.0], None, [0, 1, 2]),
    "halves": ("weight", np.array([1, 2], np.float16).tolist(), pa.float16(), [0, 1]),
    "numbers as text": (
        "weight",
        ["1", " 2 ", "1e1", "0x10", "１", "1_0", "", None],
        None,
        [0, 1, 2],
    ),
    "flags for numbers": ("weight", [True, False], None, []),
    "bytes for text": ("depot", [b"north", b"\xff"], None, []),
    "numbers for ids": ("parcel", [7, 8, 7], pa.int32(), [0, 1]),
    "fractions for ids": ("parcel", [7.5, 8.0], None, []),
    "other scripts": (
        "parcel",
        ["", "\u202eP", "e\u0301", "\u00e9", "a\0b", "a"],
        None,
        [1, 2, 3, 4, 5],
    ),
    "zones": (
        "promised",
        ["2024-03-01T10:00:00+14:00", "2024-03-01T10:00:00-12:00", "2024-03-01T10:00:00"],
        None,
        [0, 1],
    ),
    "years 0 and 9999": (
        "promised",
        ["0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"],
        None,
        [1, 2],
    ),
    "times without zone": ("promised", [datetime(2024, 3, 1)], None, []),
    "nanoseconds": ("promised", [ISO], pa.timestamp("ns", tz="Asia/Kolkata"), [0]),
    "milliseconds beyond microseconds": ("promised", [0, 2**62, -(2**62)], MILLIS, [0]),
    "years beyond 9999": ("promised", [0, 2**62, None, -(2**62)], MICROS, [0]),
    "a zone that is none": ("promised", [0, 2**62], pa.timestamp("us", tz="Moon/Copernicus"), [0]),
    "days beyond 9999": ("promised", [0, 2**31 - 1, -(2**31)], pa.date32(), []),
    "long durations": ("weight", [1, 2**62], pa.duration("s"), []),
    "hours beyond a day": ("weight", [1, 2**62], pa.time64("us"), []),
    "hours before a day": ("promised", [-1, 0, None], pa.time32("s"), []),
    "the last moment of a day": ("rain", [86_400 * 10**6 - 1, -(2**63)], pa.time64("us"), []),
    "whole days": ("rain", [1, 2**62], pa.date64(), []),
    "days": ("promised", [ISO.date()], pa.date32(), []),
    "nothing but nulls": ("weight", [None, None], pa.null(), []),
}


@pytest.mark.parametrize("case", COLUMNS, ids=lambda case: case.replace(" ", "_"))
def test_a_hostile_column_costs_its_own_rows(tmp_path: Path, take: Take, case: str) -> None:
    name, values, kind, good = COLUMNS[case]
    path = tmp_path / "a.parquet"
    pq.write_table(column(name, values, kind), path)
    settled = take(path, "parquet")
    assert_conserved(settled, len(values))
    assert positions(settled)[0] == good


def test_ten_megabytes_in_one_cell_cost_one_row(tmp_path: Path, take: Take) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(column("parcel", ["a", "x" * 10_000_000, "b"]), path)
    settled = take(path, "parquet")
    assert positions(settled) == ([0, 2], [1])
    assert settled.reasons == {
        "row has 10,000,000 bytes in column parcel, at most 1,048,576 are read": 1
    }


def test_a_lone_surrogate_in_json_is_refused(tmp_path: Path, take: Take) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({**GOOD, "parcel": name}) for name in ("a", "\ud800", "b")]
    path.write_text("\n".join(lines))
    assert positions(take(path, "jsonl")) == ([0, 2], [1])


def test_a_hundred_thousand_unknown_keys_cost_one_row(tmp_path: Path, take: Take) -> None:
    path = tmp_path / "a.jsonl"
    wide = {**GOOD, **{f"key {n}": n for n in range(100_000)}}
    path.write_text("\n".join(map(json.dumps, [wide, {**GOOD, "parcel": "P1"}])))
    assert positions(take(path, "jsonl")) == ([1], [0])

"""What could not be kept is counted where it outlives a full disk and the end of the process."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from app.config import Config
from app.data.tables import open_tables
from app.ledger.database import Ledger, open_ledger
from app.ledger.losses import read_losses
from app.serving.capture import Spool, SpoolRefused
from app.serving.losses import GAP_SECONDS, MOST_GAPS, SLOT_BYTES, TALLY, Losses, read_gaps
from app.serving.reporting import EVERY_SECONDS, LossReports, report_losses
from app.serving.shipping import adopt_spools

ROOT = Path(__file__).resolve().parents[3]
SCHEMAS = {"events": pa.schema([("id", pa.string())])}
# Keeps rows until this process may write no more, counts what it cannot keep, and is killed.
WRITER = """
import os, resource, signal, sys, time
from pathlib import Path
import pyarrow as pa
from app.serving.capture import Spool, SpoolRefused

schema = pa.schema([("id", pa.string())])
spool = Spool(Path(sys.argv[1]), {"events": schema}, counts_losses_by=time.time)
resource.setrlimit(resource.RLIMIT_FSIZE, (48_000, 48_000))
kept = lost = 0
reasons = set()
for number in range(400):
    rows = {"events": pa.table({"id": [f"{number}-" + "x" * 2000]}, schema)}
    # A segment that was cut short is closed and the next one has room; so the last ones are large.
    if number >= 300:
        rows = {"events": pa.table({"id": ["x" * 50_000]}, schema)}
    try:
        spool.append(rows)
        kept += 1
    except SpoolRefused as refused:
        reasons.add(refused.reason)
        assert spool.lose(rows, refused)
        lost += 1
sys.stdout.write(f"{kept} {lost} {','.join(sorted(reasons))} {spool.id}\\n")
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(flights: Config) -> Iterator[Ledger]:
    opened = open_ledger(flights.ledger_url)
    yield opened
    opened.close()


def test_what_a_full_disk_cost_is_known_after_the_process_was_killed(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert told.returncode == -9, told.stderr
    kept, lost, reasons, spool = told.stdout.split()

    gaps = read_gaps(tmp_path / spool)

    assert (int(kept) + int(lost), reasons) == (400, "disk_full")
    assert int(lost) > 100
    assert {gap.reason for gap in gaps} == {"disk_full"}
    assert sum(gap.num_rows for gap in gaps) == int(lost)
    assert not list((tmp_path / spool).glob("*.open"))


def test_a_gap_grows_until_a_minute_passes_without_a_loss(tmp_path: Path, clock: Clock) -> None:
    losses = Losses(tmp_path, clock)
    losses.add({"events": 2, "predictions": 2, "quarantine": 0}, "spool_full")
    clock.now += GAP_SECONDS
    losses.add({"events": 1}, "spool_full")
    clock.now += GAP_SECONDS + 1
    losses.add({"events": 5}, "spool_full")
    losses.add({"events": 7}, "disk_full")

    assert [tuple(gap) for gap in read_gaps(tmp_path)] == [
        ("events", "spool_full", 1000.0, 1060.0, 3),
        ("predictions", "spool_full", 1000.0, 1000.0, 2),
        ("events", "spool_full", 1121.0, 1121.0, 5),
        ("events", "disk_full", 1121.0, 1121.0, 7),
    ]
    assert losses.by_table() == {"events": 15, "predictions": 2}


def test_many_gaps_become_one_and_no_row_is_forgotten(tmp_path: Path, clock: Clock) -> None:
    losses = Losses(tmp_path, clock)
    for _ in range(3 * MOST_GAPS):
        losses.add({"events": 1}, "disk_full")
        clock.now += GAP_SECONDS + 1
    losses.add({"labels": 1}, "no_key")

    gaps = read_gaps(tmp_path)

    assert len(gaps) == MOST_GAPS + 1
    assert sum(gap.num_rows for gap in gaps) == 3 * MOST_GAPS + 1
    assert (tmp_path / TALLY).stat().st_size == 2 * SLOT_BYTES


@pytest.mark.parametrize("at", [0, 5, 16, 40])
def test_a_count_that_was_cut_short_leaves_the_one_before(
    tmp_path: Path, clock: Clock, at: int
) -> None:
    losses = Losses(tmp_path, clock)
    losses.add({"events": 1}, "disk_full")
    losses.add({"events": 1}, "disk_full")
    content = bytearray((tmp_path / TALLY).read_bytes())
    content[at] ^= 255
    (tmp_path / TALLY).write_bytes(content)

    [gap] = read_gaps(tmp_path)

    assert gap.num_rows == 1


def lose(spool: Spool, number: int) -> None:
    refused = SpoolRefused("no room", "disk_full")
    assert spool.lose({"events": ["row"] * number}, refused)


def test_a_loss_is_reported_once_however_often_and_by_whomever(
    flights: Config, ledger: Ledger, clock: Clock
) -> None:
    spool = Spool(flights.spool_path, SCHEMAS, counts_losses_by=clock)
    reports, tables = LossReports(ledger, "flights", spool, clock), open_tables(flights)
    lose(spool, 3)
    reports.tick()
    clock.now += EVERY_SECONDS + 1
    lose(spool, 4)
    reports.tick()
    report_losses(ledger, "flights", spool.id, spool.losses.gaps if spool.losses else [])
    lose(spool, 5)
    spool.close()

    adopt_spools(flights.spool_path, tables, report=partial(report_losses, ledger, "flights"))

    [loss] = read_losses(ledger, "flights")
    assert (loss.replica, loss.table, loss.reason) == (spool.id, "events", "disk_full")
    assert (loss.num_rows, loss.first_at.timestamp()) == (12, 1000.0)
    assert loss.last_at.timestamp() == clock.now
    assert not spool.folder.exists()


def test_a_folder_with_losses_waits_for_somebody_who_can_report_them(
    flights: Config, ledger: Ledger, clock: Clock
) -> None:
    spool = Spool(flights.spool_path, SCHEMAS, counts_losses_by=clock)
    lose(spool, 3)
    spool.close()

    adopt_spools(flights.spool_path, open_tables(flights))

    [gap] = read_gaps(spool.folder)
    assert gap.num_rows == 3


def test_a_spool_that_counts_nothing_and_a_closed_one_let_nothing_be_lost(
    tmp_path: Path, clock: Clock
) -> None:
    counting = Spool(tmp_path, SCHEMAS, counts_losses_by=clock)
    counting.close()
    with pytest.raises(SpoolRefused) as closed:
        counting.append({"events": pa.table({"id": ["a"]})})

    assert not counting.lose({"events": ["a"]}, closed.value)
    full = SpoolRefused("no room", "disk_full")
    assert not counting.lose({"events": ["a"]}, full)
    assert not Spool(tmp_path, SCHEMAS).lose({"events": ["a"]}, full)

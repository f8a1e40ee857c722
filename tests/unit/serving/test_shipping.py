"""Shipping: everything acknowledged reaches the tables once, whoever dies and whenever."""

import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from app.config import Config
from app.data.sealing import key_of
from app.data.tables import Tables, open_tables
from app.security.keyring import open_keyring
from app.serving.capture import Spool
from app.serving.segments import DAMAGED
from app.serving.shipper import Shipper
from app.serving.shipping import Carrier, adopt_spools, ship_folder

ROOT = Path(__file__).resolve().parents[3]
AT = datetime(2013, 4, 1, tzinfo=UTC)
# Appends labels of one row for ever, acknowledges each on its output, and ships in the background.
WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import pyarrow as pa
from app.config import load_config
from app.data.tables import open_tables
from app.serving.capture import Spool
from app.serving.carrier import CarrierProcess
from app.serving.shipper import Shipper
from app.serving.shipping import Carrier

config = load_config("configs/flights.yaml", ["workspace=" + sys.argv[1]])
tables = open_tables(config)
schemas = {"labels": tables.schema("labels")}
spool = Spool(config.spool_path, schemas, keyring=tables.sealing.for_new)
apart = sys.argv[3] == "process"
carrier = CarrierProcess(config, spool.lock_descriptor) if apart else Carrier(tables)
Shipper(spool, carrier, every_seconds=0.01).start()
at = datetime(2013, 4, 1, tzinfo=UTC)
number = 0
while True:
    row = {"row_id": f"{sys.argv[2]}-{number}", "label": 1, "void": False, "known_at": at,
           "received_at": at, "source": "test"}
    spool.append({"labels": pa.Table.from_pylist([row], tables.schema("labels"))})
    sys.stdout.write(f"{row['row_id']}\\n")
    sys.stdout.flush()
    number += 1
"""


def labels(tables: Tables, *ids: str) -> dict[str, pa.Table]:
    row = {"label": 1, "void": False, "known_at": AT, "received_at": AT, "source": "test"}
    return {
        "labels": pa.Table.from_pylist(
            [{"row_id": name, **row} for name in ids], tables.schema("labels")
        )
    }


def logged(tables: Tables) -> list[str]:
    names: list[str] = tables.read("labels")["row_id"].to_pylist()
    return names


def open_spool(config: Config, tables: Tables) -> Spool:
    schemas = {"labels": tables.schema("labels")}
    return Spool(config.spool_path, schemas, keyring=tables.sealing.for_new)


@pytest.fixture
def tables(flights: Config) -> Tables:
    return open_tables(flights)


@pytest.fixture
def spool(flights: Config, tables: Tables) -> Spool:
    return open_spool(flights, tables)


def test_shipped_segments_are_in_the_table_and_gone_from_the_folder(
    spool: Spool, tables: Tables
) -> None:
    spool.append(labels(tables, "a", "b"))
    spool.roll()
    counts: Counter[str] = Counter()

    ship_folder(spool.folder, tables, counts)

    assert sorted(logged(tables)) == ["a", "b"]
    assert counts == {"labels": 2}
    assert [path.name for path in spool.folder.iterdir()] == ["lock"]


def test_a_segment_that_was_shipped_and_not_deleted_is_not_doubled(
    spool: Spool, tables: Tables
) -> None:
    spool.append(labels(tables, "a"))
    spool.roll()
    [path] = spool.folder.glob("*.segment")
    content = path.read_bytes()
    ship_folder(spool.folder, tables, Counter())
    path.write_bytes(content)

    ship_folder(spool.folder, tables, Counter())

    assert logged(tables) == ["a"]
    assert not path.exists()


def test_a_dead_owners_spool_is_adopted_and_a_living_ones_is_not(
    flights: Config, spool: Spool, tables: Tables
) -> None:
    dead = open_spool(flights, tables)
    dead.append(labels(tables, "dead"))
    dead.close()
    spool.append(labels(tables, "living"))

    adopted = adopt_spools(flights.spool_path, tables)

    assert adopted == {"labels": 1}
    assert logged(tables) == ["dead"]
    assert not dead.folder.exists()
    assert spool.folder.exists()


@pytest.mark.parametrize("at_rest", [True, False])
def test_a_dead_owners_spool_is_adopted_after_the_keys_were_changed_and_when_it_is_plain(
    flights: Config, at_rest: bool
) -> None:
    encryption = flights.encryption.model_copy(update={"at_rest": at_rest})
    before = open_tables(flights.model_copy(update={"encryption": encryption}))
    dead = Spool(
        flights.spool_path, {"labels": before.schema("labels")}, keyring=before.sealing.for_new
    )
    dead.append(labels(before, "dead"))
    dead.close()
    [path] = dead.folder.glob("*.segment")
    ring = open_keyring(flights)
    assert key_of(path.name) == (ring.current() if at_rest else None)
    ring.renew()

    adopted = adopt_spools(flights.spool_path, open_tables(flights))

    assert adopted == {"labels": 1}
    assert logged(open_tables(flights)) == ["dead"]


def test_without_its_key_a_sealed_spool_waits_and_loses_nothing(
    flights: Config, tables: Tables
) -> None:
    dead = open_spool(flights, tables)
    dead.append(labels(tables, "dead"))
    dead.close()
    keys = flights.workspace / "keys" / "keyring.json"
    keys.rename(keys.with_name("lost.json"))

    assert adopt_spools(flights.spool_path, open_tables(flights)) == {}
    keys.with_name("lost.json").rename(keys)
    assert adopt_spools(flights.spool_path, open_tables(flights)) == {"labels": 1}


def test_a_damaged_segment_ships_its_good_rows_and_is_kept(spool: Spool, tables: Tables) -> None:
    spool.append(labels(tables, "good"))
    [path] = spool.folder.glob("*.open")
    size = path.stat().st_size
    spool.append(labels(tables, "damaged"))
    content = bytearray(path.read_bytes())
    content[size + 30] ^= 255
    path.write_bytes(content)
    spool.roll()

    ship_folder(spool.folder, tables, Counter())

    assert logged(tables) == ["good"]
    assert [kept.suffix for kept in spool.folder.iterdir() if kept.name != "lock"] == [DAMAGED]


def test_a_stopped_shipper_has_shipped_everything(spool: Spool, tables: Tables) -> None:
    shipper = Shipper(spool, Carrier(tables), every_seconds=60)
    shipper.start()
    spool.append(labels(tables, "a"))

    shipper.stop()

    assert logged(tables) == ["a"]
    assert shipper.counts.shipped == {"labels": 1}


def test_while_the_tables_are_away_rows_stay_and_are_shipped_later(
    flights: Config, spool: Spool, tables: Tables
) -> None:
    flights.tables_path.write_text("in the way of the tables' folder")
    shipper = Shipper(spool, Carrier(tables), every_seconds=0.02)
    spool.append(labels(tables, "a"))
    shipper.start()
    deadline = time.monotonic() + 10
    while shipper.counts.problem is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shipper.counts.problem is not None
    assert shipper.alive

    flights.tables_path.unlink()
    shipper.stop()

    assert logged(tables) == ["a"]


def test_a_writer_killed_at_any_moment_loses_nothing_acknowledged_and_doubles_nothing(
    flights: Config, tables: Tables
) -> None:
    chance = random.Random(5)
    acknowledged: list[str] = []
    for life in range(4):
        acknowledged += run_and_kill(flights.workspace, f"life{life}", chance.uniform(0.05, 0.6))

    adopt_spools(flights.spool_path, tables)

    assert_each_once(acknowledged, logged(tables), lives=4)
    assert [path for path in flights.spool_path.iterdir() if path.is_dir()] == []


def assert_each_once(acknowledged: list[str], found: list[str], lives: int) -> None:
    times = Counter(found)
    assert len(acknowledged) > 100
    assert [name for name in acknowledged if times[name] != 1] == []
    # At most the one row of each life that was kept and not yet acknowledged when its writer died.
    assert len(times) - len(acknowledged) <= lives
    assert set(times.values()) == {1}


def run_and_kill(
    workspace: Path,
    name: str,
    seconds: float,
    ship_in: str = "thread",
    begun: Callable[[], bool] = lambda: True,
) -> list[str]:
    """Run a writer, kill it some time after its first row, return the rows it acknowledged.

    The time is counted from when it has `begun` with what it is to be killed at.
    """
    command = [sys.executable, "-c", WRITER, str(workspace), name, ship_in]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 60)[0]
        # Its output is read while it runs, or the pipe would fill up and hold it.
        content = b""
        deadline, has_begun = time.monotonic() + 60, False
        while time.monotonic() < deadline:
            if not has_begun and begun():
                deadline, has_begun = time.monotonic() + seconds, True
            if select.select([process.stdout], [], [], 0.01)[0]:
                content += process.stdout.read1()
        process.send_signal(signal.SIGKILL)
        content += process.stdout.read()
    assert has_begun
    return content.decode().rpartition("\n")[0].split("\n")

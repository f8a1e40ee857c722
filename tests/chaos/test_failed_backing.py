"""What is behind a replica fails under load: answers go on, and every row is kept or counted.

The monitor is killed, the disk of the spool is full, the ledger hangs: one after the other, while
requests come at a constant rate.
"""

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson
import pytest

from app.config import Config, load_config, show_config
from app.data.tables import TableName, open_tables
from app.ledger.database import open_ledger
from app.ledger.losses import read_losses
from app.monitoring.tail import Tail
from app.security.access import ROLES, Keyring
from tests.job_process import ROOT
from tests.monitor_process import start_monitor
from tests.replica_process import run_replica
from tests.serving_world import give_roles, make_rows, put_version
from tests.stalled_ledger import stalled
from tests.steady_load import Outcome, send_steadily

RATE = 40.0
SECONDS = float(os.environ.get("MAINSPRING_CHAOS_SECONDS", "80"))
# When each part fails and when it is back, as shares of the time.
MONITOR, DISK, LEDGER = (0.05, 0.95), (0.15, 0.4), (0.55, 0.85)
DISK_MB = 8
LOGGED: dict[TableName, str] = {"predictions": "row_id", "events": "flight_id"}
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def has_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    mounting = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(mounting, capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.skipif(not has_namespaces(), reason="no mounts without root: a disk cannot fill"),
]


@dataclass
class Answers:
    """Which rows were answered, by whether their records were kept."""

    kept: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    async def note(self, response: httpx.Response) -> None:
        body = orjson.loads(await response.aread())
        if response.status_code == 200:
            names = [each["row_id"] for each in body["predictions"]]
            (self.kept if body.get("kept", True) else self.lost).extend(names)


@dataclass
class Faults:
    """Makes parts fail and come back while requests are sent."""

    config: Config
    file: Path
    replica: int
    log: Path
    began: float = field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        parts = (self._kill_monitor, self._fill_disk, self._stall_ledger)
        threads = [threading.Thread(target=part) for part in parts]
        for thread in threads:
            thread.start()
        yield
        for thread in threads:
            thread.join()

    def _kill_monitor(self) -> None:
        monitor = start_monitor(self.file, self.log)
        self._sleep_until(MONITOR[0])
        monitor.kill()
        monitor.wait()
        self._sleep_until(MONITOR[1])
        monitor = start_monitor(self.file, self.log)
        self._sleep_until(1.0)
        # In the midst of what it has to catch up with.
        monitor.kill()
        monitor.wait()

    def _fill_disk(self) -> None:
        self._sleep_until(DISK[0])
        filler = Path(f"/proc/{self.replica}/root{self.config.spool_path}/filler")
        with filler.open("wb", buffering=0) as taking:
            while time.monotonic() < self._at(DISK[1]):
                # What is shipped makes room, which somebody else takes.
                try:
                    taking.write(bytes(1024))
                except OSError as full:
                    if full.errno != errno.ENOSPC:
                        raise
                    time.sleep(0.005)
        filler.unlink()

    def _stall_ledger(self) -> None:
        self._sleep_until(LEDGER[0])
        with stalled(self.config.workspace / "ledger.sqlite"):
            self._sleep_until(LEDGER[1])

    def _at(self, share: float) -> float:
        return self.began + share * SECONDS

    def _sleep_until(self, share: float) -> None:
        time.sleep(max(0.0, self._at(share) - time.monotonic()))


def send_all(url: str, bodies: Sequence[bytes], key: str, answers: Answers) -> Outcome:
    async def send() -> Outcome:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        hooks = {"response": [answers.note]}
        async with httpx.AsyncClient(
            base_url=url, headers=headers, timeout=60, event_hooks=hooks
        ) as client:
            return await send_steadily(client, "/v1/flights/predict", bodies, RATE)

    return asyncio.run(send())


def prepare(workspace: Path, policy: str) -> tuple[Config, str]:
    overrides = [
        f"workspace={workspace}",
        "clock=wall",
        f"serving.capture.when_full={policy}",
        "serving.ship_seconds=0.5",
    ]
    config = load_config(ROOT / "configs" / "flights.yaml", overrides)
    ledger = open_ledger(config.ledger_url)
    give_roles(ledger, config.name, put_version(config, ledger, seed=1))
    ledger.close()
    key = Keyring(config.workspace).create("load", ROLES, datetime.now(UTC)).get_secret_value()
    return config, key


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.timeout(6 * SECONDS + 300)
@pytest.mark.parametrize("policy", ["answer", "refuse"])
def test_answers_go_on_and_every_row_is_kept_or_counted(tmp_path: Path, policy: str) -> None:
    config, key = prepare(tmp_path / "workspace", policy)
    file, port = tmp_path / "flights.yaml", free_port()
    file.write_text(show_config(config))
    config.spool_path.mkdir()
    mounted = f'mount -t tmpfs -o size={DISK_MB}m tmpfs "{config.spool_path}" && exec "$@"'
    within = [*NAMESPACE, "sh", "-c", mounted, "sh"]
    rows = [make_rows(config.contract, 1, first=n) for n in range(int(RATE * SECONDS))]
    asked, answers = {f"row-{n}" for n in range(len(rows))}, Answers()
    bodies = [orjson.dumps({"rows": each}) for each in rows]

    with run_replica(file, port, tmp_path / "replica.log", within=within) as replica:
        faults = Faults(config, file, replica.pid, tmp_path / "monitor.log")
        with faults.at_work():
            outcome = send_all(f"http://127.0.0.1:{port}", bodies, key, answers)
    ledger, tables = open_ledger(config.ledger_url), open_tables(config)
    lost = Counter[str]()
    for loss in read_losses(ledger, config.name):
        assert loss.reason == "disk_full"
        lost[loss.table] += loss.num_rows
    logged = {name: tables.read(name)[column].to_pylist() for name, column in LOGGED.items()}
    # A monitor that follows two that were killed comes to the counts of one that never was.
    tail = Tail(config, ledger)
    tail.tick(datetime.now(UTC), {})
    counts = tail.state.counts
    ledger.close()

    sys.stdout.write(
        f"{policy}: {len(rows)} sent, {outcome}; {len(answers.kept)} kept, {len(answers.lost)} "
        f"lost; in the ledger {dict(lost)}; folded {counts.num_predictions}\n"
    )
    for name, names in logged.items():
        assert sorted(names) == sorted(answers.kept), name
        assert lost[name] == len(answers.lost), name
    assert (counts.num_predictions, counts.num_repeated_predictions) == (len(answers.kept), 0)
    refused = outcome.statuses[503]
    assert outcome.statuses == {200: len(rows) - refused} | ({503: refused} if refused else {})
    if policy == "answer":
        assert refused == 0
        assert {*answers.kept, *answers.lost} == asked
        assert len(answers.kept) + len(answers.lost) == len(asked)
        assert answers.lost
    else:
        assert answers.lost == []
        assert len(answers.kept) + refused == len(asked)
        assert refused

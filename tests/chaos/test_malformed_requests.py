"""A replica answers or hangs up on whatever is sent to it, and holds nothing of it.

Real sockets, uvicorn as Serve starts it, a process of its own. A few thousand attempts by default,
100,000 with `-m slow`; MALFORMED_SEED makes others. Prints what was answered, and what it cost.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from app.config import Config
from app.contracts.rows import Contract
from app.security.access import ROLES, Keyring
from tests.edge_world import needs_nginx, run_edge
from tests.malformed_requests import Maker
from tests.raw_lines import Outcome, Target, storm
from tests.replica_process import prepare_flights, run_replica
from tests.serving_world import make_rows
from tests.token_world import AUDIENCE, ISSUER, Provider
from tests.waiting import wait_until

SEED = int(os.environ.get("MALFORMED_SEED", "7"))
LINE_SECONDS, BODY_SECONDS = 2.0, 2.0
# A line is looked at once in its time, a body may then take its own; and both sides share a machine
# with others, which may hold either of them up.
MOST_SECONDS = 2 * LINE_SECONDS + BODY_SECONDS + 30.0
TOGETHER = 24
# Delta reads with a pool of its own: a thread of it ends ten seconds after its last use.
DELTAS_THREAD = "tokio-rt-worker"
MB = 2**20
OVERRIDES = (
    f"serving.body_seconds={BODY_SECONDS}",
    "serving.max_body_mb=1",
    "serving.max_rows_per_request=100",
    "serving.explain_max_ongoing=64",
    # Each shipping adds a file to what is kept in memory of a table, some kilobytes until they are
    # compacted. The question here is what requests leave behind, not what the log does.
    "serving.ship_seconds=20",
    f"serving.tokens={{issuer: '{ISSUER}', audience: {AUDIENCE}}}",
)


@dataclass(frozen=True)
class Attacked:
    """A replica, and who makes what is sent to it."""

    target: Target
    process: psutil.Process
    maker: Maker
    log: Path
    key: str
    contract: Contract

    def use_once(self) -> None:
        """Have it score, ship and look up one row: what it reads for the first time by that stays.

        Libraries are paged in and pools of threads begin; no broken request leaves that behind.
        """
        place = f"http://{self.target.host}:{self.target.port}/v1/flights"
        with httpx.Client(headers={"authorization": f"Bearer {self.key}"}) as client:
            answer = client.post(f"{place}/predict", json={"rows": make_rows(self.contract, 1)})
            [prediction] = answer.json()["predictions"]
            receipt = f"{place}/predictions/{prediction['prediction_id']}"
            wait_until(lambda: client.get(receipt).status_code == 200)

    def held(self) -> dict[str, Any]:
        """Say what the process holds, once it has settled."""
        deadline = time.monotonic() + 30
        while any(line.status == "ESTABLISHED" for line in self.process.net_connections()):
            assert time.monotonic() < deadline, "connections are left open"
            time.sleep(0.2)
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/comm")
        names = [task.read_text().strip() for task in tasks]
        return {
            "rss_mb": round(self.process.memory_info().rss / MB, 1),
            "files": self.process.num_fds(),
            "threads": len([name for name in names if name != DELTAS_THREAD]),
            "deltas_threads": names.count(DELTAS_THREAD),
        }


@pytest.fixture
def attacked(tmp_path: Path, free_port: int) -> Iterator[Attacked]:
    """A replica that answers, with short times."""
    config, file = prepare_flights(tmp_path, *OVERRIDES)
    keys = _keys(config)
    maker = Maker(config.contract, keys, SEED)
    log = tmp_path / "replica.log"
    line = f"--line-seconds={LINE_SECONDS}"
    with run_replica(file, free_port, log, line) as process:
        target, watched = Target("127.0.0.1", free_port), psutil.Process(process.pid)
        yield Attacked(target, watched, maker, log, keys["good"], config.contract)
        assert process.poll() is None, log.read_text()[-3000:]


def _keys(config: Config) -> dict[str, str]:
    keyring, provider = Keyring(config.workspace), Provider(config.workspace)
    provider.publish()
    now = datetime.now(UTC)
    return {
        "good": keyring.create("good", ROLES, now).get_secret_value(),
        "audit": keyring.create("audit", ["audit"], now).get_secret_value(),
        "expired token": provider.token(),
        "wrong": "msk_" + "A" * 43,
    }


def attack(attacked: Attacked, numbers: range, outcome: Outcome) -> dict[str, Any]:
    """Make attempts by their numbers; give what the process holds after them."""
    began = time.monotonic()
    asyncio.run(storm(attacked.target, attacked.maker, numbers, TOGETHER, MOST_SECONDS, outcome))
    after = {"attempts": numbers.stop, **attacked.held()}
    print(json.dumps({**after, "seconds": round(time.monotonic() - began, 1)}), flush=True)
    return after


def assert_unharmed(attacked: Attacked, outcome: Outcome) -> None:
    """Check that nothing was a fault, neither in an answer nor in the log."""
    print(json.dumps(dict(outcome.statuses.most_common())))
    print(json.dumps(dict(sorted(outcome.kinds.items()))))
    assert outcome.faults == [], "\n".join(outcome.faults[:40])
    said = attacked.log.read_text(errors="replace")
    assert "Traceback" not in said, said[said.index("Traceback") - 500 :][:4000]


@pytest.mark.chaos
def test_thousands_of_broken_requests_break_nothing(attacked: Attacked) -> None:
    outcome = Outcome()
    attack(attacked, range(3000), outcome)

    assert_unharmed(attacked, outcome)
    assert outcome.statuses["good 200"] == 15
    assert {"400", "401", "404", "405", "408", "413", "415", "422", "431"} <= set(outcome.statuses)


@pytest.mark.edge
@needs_nginx
@pytest.mark.chaos
def test_the_edge_before_it_is_as_patient_and_as_civil(attacked: Attacked, tmp_path: Path) -> None:
    outcome = Outcome()
    times = {"client_body_timeout 20s": "client_body_timeout 1s"}
    times["client_header_timeout 10s"] = "client_header_timeout 1s"
    times["keepalive_timeout 75s"] = "keepalive_timeout 1s"
    with run_edge(tmp_path / "edge", [attacked.target.port], times) as edge:
        before = Target("127.0.0.1", edge.port, edge.trust)
        attack(replace(attacked, target=before), range(3000), outcome)

    assert_unharmed(attacked, outcome)
    assert outcome.statuses["good 200"] == 15


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_broken_requests_leave_nothing_behind(attacked: Attacked) -> None:
    outcome = Outcome()
    attacked.use_once()
    held = [attack(attacked, range(n, n + 20_000), outcome) for n in range(0, 100_000, 20_000)]

    assert_unharmed(attacked, outcome)
    assert outcome.statuses["good 200"] == 500
    warm, last = held[0], held[-1]
    print(json.dumps({"rss_growth_share": round(last["rss_mb"] / warm["rss_mb"] - 1, 4)}))
    assert last["rss_mb"] <= warm["rss_mb"] * 1.05 + 4
    assert last["files"] <= warm["files"] + 4
    # Pools of a fixed size (Arrow's, the allocator's) begin a thread when one is first needed.
    assert last["threads"] <= warm["threads"] + 10

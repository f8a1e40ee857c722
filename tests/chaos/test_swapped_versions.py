"""Swap versions under load, good and bad ones: no request fails, and a bad version never answers.

One replica in a process of its own, without Ray: roles are followed by the replica itself.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import torch

from app.config import Config, load_config, show_config
from app.ledger.database import Ledger, open_ledger
from app.registry.artifacts import Artifacts
from app.registry.store import Replica, live_replicas
from app.security.access import ROLES, Keyring
from tests.edge_world import free_ports
from tests.job_process import ROOT
from tests.replica_process import run_replica
from tests.serving_world import give_roles, make_bundle, make_rows, put_version, register
from tests.steady_load import Outcome, send_steadily

NUM_SWAPS = 20
NUM_REQUESTS = 10_000
RATE = 60.0
SECONDS = 60.0
# So long a version that hangs is left alone with its load.
HANG_SECONDS = 2.0

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def put_missing(config: Config, ledger: Ledger) -> str:
    """Register a version whose artifact is gone."""
    digest = put_version(config, ledger, seed=11)
    shutil.rmtree(config.artifacts_path / digest)
    return digest


def put_altered(config: Config, ledger: Ledger) -> str:
    """Register a version one bit of whose weights was altered."""
    digest = put_version(config, ledger, seed=12)
    weights = config.artifacts_path / digest / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return digest


def put_without_numbers(config: Config, ledger: Ledger) -> str:
    """Register a version whose weights are no numbers, in a folder that is what it says it is."""
    bundle = make_bundle(config.contract, seed=13)
    assert isinstance(bundle.network, torch.nn.Module)
    with torch.no_grad():
        for weights in bundle.network.parameters():
            weights.fill_(float("nan"))
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(Path(folder) / "bundle")
        digest = Artifacts(config.artifacts_path).put(Path(folder) / "bundle")
    register(config, ledger, digest, "run-13")
    return digest


def put_hanging(config: Config, ledger: Ledger) -> str:
    """Register a version that is never read to its end: a pipe that nobody writes to."""
    digest = put_version(config, ledger, seed=14)
    weights = config.artifacts_path / digest / "weights.safetensors"
    weights.unlink()
    os.mkfifo(weights)
    return digest


BAD = {
    "missing": put_missing,
    "altered": put_altered,
    "no numbers": put_without_numbers,
    "hanging": put_hanging,
}


def wait_until(condition: Callable[[], bool], what: str) -> float:
    """Wait for it; give the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < SECONDS, f"{what}: not in {SECONDS:g} s"
        time.sleep(0.01)
    return time.monotonic() - began


@dataclass
class Swaps:
    """Gives roles while requests come, and notes how long the replica took to follow."""

    config: Config
    ledger: Ledger
    first: str
    second: str
    bad: dict[str, str]
    there: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    problems: dict[str, set[str]] = field(default_factory=dict)
    fault: BaseException | None = None

    def run(self) -> None:
        """Swap so often; to be called in a thread of its own."""
        try:
            kinds = [*self.bad]
            for number in range(NUM_SWAPS):
                self.there.append(self.follow(self.second, self.first))
                self.back.append(self.follow(self.first, self.second))
                self.try_bad(kinds[number % len(kinds)])
                self.back.append(self.follow(self.first, self.second))
        # Raised again in the test's own thread.
        except BaseException as error:
            self.fault = error

    def follow(self, champion: str, previous: str) -> float:
        """Give roles to good versions; return the seconds until the replica acknowledges them."""
        roles = give_roles(self.ledger, self.config.name, champion, previous=previous)
        return wait_until(
            lambda: self.replica().generation == roles.generation, f"{champion[:8]} is followed"
        )

    def try_bad(self, kind: str) -> None:
        """Make a bad version the champion, and see that the replica does not follow."""
        digest = self.bad[kind]
        roles = give_roles(self.ledger, self.config.name, digest, previous=self.first)
        if kind == "hanging":
            time.sleep(HANG_SECONDS)
        else:
            wait_until(lambda: digest in self.replica().problems, f"{kind} is reported")
            self.problems.setdefault(kind, set()).add(self.replica().problems[digest])
        told = self.replica()
        assert told.generation < roles.generation
        assert digest not in told.resident
        # Whoever follows goes on saying that it lives.
        wait_until(lambda: self.replica().seen > told.seen, "a heartbeat")

    def replica(self) -> Replica:
        """Say what the one replica acknowledges."""
        [replica] = live_replicas(self.ledger, self.config.name, time.time())
        return replica


@pytest.mark.timeout(900)
def test_no_request_fails_while_versions_are_swapped_and_no_bad_one_answers(tmp_path: Path) -> None:
    overrides = [f"workspace={tmp_path / 'workspace'}", "clock=wall"]
    config = load_config(ROOT / "configs" / "flights.yaml", overrides)
    file = tmp_path / "flights.yaml"
    file.write_text(show_config(config))
    ledger = open_ledger(config.ledger_url)
    first, second = (put_version(config, ledger, seed=seed) for seed in (1, 2))
    bad = {kind: put(config, ledger) for kind, put in BAD.items()}
    give_roles(ledger, config.name, first)
    swaps = Swaps(config, ledger, first, second, bad)
    [port] = free_ports(1)
    with run_replica(file, port, tmp_path / "log"):
        thread = threading.Thread(target=swaps.run)
        thread.start()
        outcome = asyncio.run(send_all(config, port))
        thread.join()
    ledger.close()

    back, there = sorted(swaps.back), sorted(swaps.there)
    sys.stdout.write(
        f"{outcome}; {len(there)} ways there, median {there[len(there) // 2]:.2f} s, longest "
        f"{there[-1]:.2f} s; {len(back)} ways back, median {back[len(back) // 2]:.2f} s, longest "
        f"{back[-1]:.2f} s\n"
    )
    if swaps.fault is not None:
        raise swaps.fault
    assert outcome.statuses == {200: NUM_REQUESTS}, "\n".join(outcome.failed[:20])
    assert set(outcome.versions) == {first, second}
    assert (len(there), len(back)) == (NUM_SWAPS, 2 * NUM_SWAPS)
    assert set(swaps.problems) == {*bad} - {"hanging"}


async def send_all(config: Config, port: int) -> Outcome:
    key = Keyring(config.workspace).create("load", ROLES, datetime.now(UTC)).get_secret_value()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    rows = (make_rows(config.contract, 1, first=number) for number in range(NUM_REQUESTS))
    bodies = [json.dumps({"rows": row}).encode() for row in rows]
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        return await send_steadily(client, f"/v1/{config.name}/predict", bodies, RATE)

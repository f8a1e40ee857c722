"""Kill replicas under load behind the shipped edge: no request fails, none is lost or doubled."""

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Config, load_config, show_config
from app.data.tables import open_tables
from app.ledger.database import Ledger, open_ledger
from app.registry.store import live_replicas
from app.security.access import ROLES, Keyring
from tests.edge_world import Edge, needs_nginx, run_edge
from tests.job_process import ROOT, serve_job
from tests.serving_world import give_roles, make_rows, put_version, spool_owners
from tests.steady_load import Outcome, send_steadily

NUM_REPLICAS = 3
NUM_REQUESTS = int(os.environ.get("MAINSPRING_CHAOS_REQUESTS", "10000"))
RATE = 60.0
KILL_EVERY_SECONDS = 10.0
# One request in so many has a body that HAProxy cannot keep, and the edge must.
LARGE_EVERY, LARGE_ROWS = 20, 40
SECONDS = 300

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.edge, needs_nginx]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in {seconds} s"
        time.sleep(0.2)


def ready(config: Config, ledger: Ledger) -> list[int]:
    """Give the processes of the replicas that answer with a champion."""
    told = {r.replica for r in live_replicas(ledger, config.name, time.time()) if r.resident}
    return sorted(pid for spool, pid in spool_owners(config).items() if spool in told)


@dataclass
class Killer:
    """Kills one replica at a time, not sooner than every so often, and only when all are ready."""

    config: Config
    ledger: Ledger
    killed: list[int] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self.stop.set()
            thread.join()

    def _run(self) -> None:
        draw, last = random.Random(11), time.monotonic()
        while not self.stop.wait(0.1):
            there = ready(self.config, self.ledger)
            late = time.monotonic() - last >= KILL_EVERY_SECONDS
            if late and len(there) == NUM_REPLICAS:
                pid = draw.choice(there)
                os.kill(pid, signal.SIGKILL)
                self.killed.append(pid)
                last = time.monotonic()


def rows_of(config: Config, number: int) -> list[dict[str, Any]]:
    """Make the rows of a request; no two requests share one."""
    size = LARGE_ROWS if number % LARGE_EVERY == 0 else 1
    return make_rows(config.contract, size, first=number * LARGE_ROWS)


def say_at_edge(edge: Edge) -> str:
    """Say what the edge saw: how long answers took there, and what came of each try."""
    lines = [json.loads(line) for line in (edge.folder / "access.log").open()]
    seconds = sorted(float(line["seconds"]) for line in lines)
    tries = dict(Counter(line["tries"] for line in lines))
    quick, slow = seconds[len(seconds) // 2], seconds[int(0.99 * len(seconds))]
    return (
        f"at the edge p50 {1e3 * quick:.0f} ms, p99 {1e3 * slow:.0f} ms, longest "
        f"{seconds[-1]:.2f} s; tries {tries}"
    )


def send_all(edge: Edge, requests: Sequence[Sequence[dict[str, Any]]], key: str) -> Outcome:
    bodies = [json.dumps({"rows": rows}).encode() for rows in requests]

    async def send() -> Outcome:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        async with httpx.AsyncClient(
            base_url=edge.url, verify=edge.trust, headers=headers, timeout=60
        ) as client:
            return await send_steadily(client, "/v1/flights/predict", bodies, RATE)

    return asyncio.run(send())


@pytest.mark.timeout(5 * SECONDS)
def test_no_request_fails_while_replicas_are_killed_and_each_is_logged_once(tmp_path: Path) -> None:
    overrides = [
        f"workspace={tmp_path / 'workspace'}",
        "clock=wall",
        f"serving={{port: 0, num_replicas: {NUM_REPLICAS}}}",
        "cluster={num_cpus: 4, object_store_mb: 100, dashboard: false}",
    ]
    config = load_config(ROOT / "configs" / "flights.yaml", overrides)
    file = tmp_path / "flights.yaml"
    file.write_text(show_config(config))
    ledger = open_ledger(config.ledger_url)
    champion = put_version(config, ledger, seed=1)
    give_roles(ledger, config.name, champion)
    key = Keyring(config.workspace).create("load", ROLES, datetime.now(UTC)).get_secret_value()
    tables, killer = open_tables(config), Killer(config, ledger)

    def logged() -> list[str]:
        return [*tables.read("predictions", columns=["idempotency_key"])[0].to_pylist()]

    requests = [rows_of(config, number) for number in range(NUM_REQUESTS)]
    asked = {row["flight_id"] for rows in requests for row in rows}
    with serve_job(file, tmp_path / "log") as url:
        wait_until(lambda: len(ready(config, ledger)) == NUM_REPLICAS, "three replicas are ready")
        port = httpx.URL(url).port
        assert port is not None
        with run_edge(tmp_path / "edge", [port]) as edge, killer.at_work():
            outcome = send_all(edge, requests, key)
            told = f"{outcome}; {say_at_edge(edge)}"
        assert outcome.statuses == {200: NUM_REQUESTS}, "\n".join([told, *outcome.failed[:20]])
        # Spools of the dead are adopted by those that live.
        wait_until(lambda: asked <= {*logged()}, "what was asked is logged", 60)
        wait_until(lambda: len([*config.spool_path.glob("*/lock")]) == NUM_REPLICAS, "adopted", 60)
    ledger.close()

    kept = logged()
    doubles = len(kept) - len({*kept})
    sys.stdout.write(f"{told}; {len(killer.killed)} kills; {doubles} rows logged twice\n")
    assert outcome.versions == {champion: NUM_REQUESTS}
    assert {*kept} == asked
    assert len(killer.killed) >= NUM_REQUESTS / RATE / KILL_EVERY_SECONDS / 3
    # A double is a row that a replica kept before it died, answered again by another.
    assert doubles <= LARGE_ROWS * len(killer.killed)

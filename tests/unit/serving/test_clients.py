"""Real clients of the Open Inference Protocol, over a socket: tritonclient and KServe's own."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from app.serving.api import build_api
from tests.serving_world import make_rows
from tests.unit.serving.conftest import World, wait_until

ROOT = Path(__file__).resolve().parents[3]
CLIENTS = ROOT / ".cache" / "clients" / "bin" / "python"

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(
        not CLIENTS.exists(), reason="no tritonclient and no kserve; make test-clients"
    ),
]


@contextmanager
def listening(world: World, port: int) -> Iterator[str]:
    """Let a real server answer on a socket."""
    server = uvicorn.Server(
        uvicorn.Config(build_api(world.replica), "127.0.0.1", port, log_level="warning")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def calls(world: World, free_port: int) -> dict[str, dict[str, Any]]:
    """What came back in a session of each client, by client and call."""
    contract = world.config.contract
    rows = make_rows(contract, 5)
    bad = [{**row, "distance": -7.0} if i == 1 else row for i, row in enumerate(rows[:3])]
    key = world.keyring.create("clients", ["predict"], datetime.now(UTC)).get_secret_value()
    kinds = {column.name: column.kind for column in contract.columns}
    asked = {"key": key, "model": "flights", "columns": kinds, "rows": rows, "bad": bad}
    with listening(world, free_port) as url:
        done = subprocess.run(
            [str(CLIENTS), str(ROOT / "tests" / "clients" / "session.py")],
            input=json.dumps({**asked, "url": url}),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    noted = json.loads(done.stdout.splitlines()[-1])
    return {f"{each['client'].split()[0]} {each['call']}": each for each in noted}


def plain_answer(world: World, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Ask for plain rows; give what an answer says of all of them, by name."""
    plain = world.client.post("/v1/flights/predict", json={"rows": rows}).json()["predictions"]
    return {name: [row[name] for row in plain] for name in ("probability", "prediction_id")}


def test_both_real_clients_get_what_plain_rows_get(
    world: World, calls: dict[str, dict[str, Any]]
) -> None:
    rows = make_rows(world.config.contract, 5)
    # A row's figure depends on the rows beside it by the rounding of float32: the same together.
    expected, of_three = (plain_answer(world, rows[:number]) for number in (5, 3))
    for client in ("tritonclient", "kserve"):
        assert calls[f"{client} is_server_live()"]["result"] is True
        assert calls[f"{client} is_server_ready()"]["result"] is True
        assert calls[f"{client} is_model_ready('flights')"]["result"] is True
        for way in ("binary in, binary out", "JSON in, JSON out"):
            answer = calls[f"{client} infer({way})"]
            assert answer["raised"] is None
            for name, values in (expected if way.startswith("binary") else of_three).items():
                assert answer["result"][name] == values, (client, way, name)
    assert calls["kserve is_model_ready('boats')"]["result"] is False
    assert calls["kserve infer(binary in, JSON out)"]["result"]["id"] == "k1"
    assert (
        calls["kserve infer(binary in, JSON out)"]["result"]["prediction_id"]
        == (expected["prediction_id"])
    )

    triton = calls["tritonclient infer(binary in, binary out)"]["result"]
    assert (triton["id"], triton["version"]) == ("t1", world.champion)
    assert calls["tritonclient infer(JSON in, JSON out)"]["result"]["binary"] == [False, False]
    assert calls["tritonclient infer(model_version=the champion)"]["raised"] is None
    metadata = calls["tritonclient get_model_metadata('flights')"]["result"]
    assert triton["binary"] == [True, True, True, True]
    assert [tensor["name"] for tensor in metadata["inputs"]] == world.config.contract.schema.names


def test_both_real_clients_are_told_why_they_are_refused(
    world: World, calls: dict[str, dict[str, Any]]
) -> None:
    def told(call: str) -> str:
        assert calls[call]["result"] is None
        return str(calls[call]["raised"])

    for client in ("tritonclient", "kserve"):
        text = told(f"{client} infer(with a row that is not acceptable)")
        assert "400" in text
        assert "row 1: distance must be in 10..6000, got -7.0" in text
    assert "[401] credential: no key" in told("tritonclient get_server_metadata() without a key")
    assert "[404]" in told("tritonclient get_model_metadata('boats')")
    assert "[404] version: version 1" in told("tritonclient infer(model_version='1')")
    assert "[415] content-encoding: gzip" in told("tritonclient infer(compressed by gzip)")
    # Of each refused request only the row that was refused is kept.
    assert world.logged("quarantine")["position"].to_pylist() == [1, 1]

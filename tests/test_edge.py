"""The shipped edge, run: who may speak, how much is let through, what is tried again, what it says.

Small servers of a few lines stand behind it where the question is what reaches them; real replicas
where it is what becomes of a row.
"""

import concurrent.futures
import contextlib
import http.server
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Config, load_config
from app.contracts.access import Limits
from app.data.tables import open_tables
from app.sections import ServingConfig
from app.security.access import ROLES, Keyring
from app.serving.messages import ErrorResponse
from app.serving.shipping import adopt_spools
from tests.edge_world import (
    SHIPPED,
    Edge,
    check_configuration,
    free_ports,
    needs_nginx,
    run_edge,
    write_certificate,
    write_configuration,
)
from tests.job_process import ROOT, serve_job
from tests.replica_process import prepare_flights, run_replica
from tests.serving_world import make_rows, spool_owners

pytestmark = [pytest.mark.edge, needs_nginx]
PREDICT = "/v1/flights/predict"
STRANGE = {
    "X-Request-Disconnect-Disabled": "?0",
    "X-Request-Timeout-Seconds": "0.001",
    "Serve-Multiplexed-Model-Id": "other",
    "serve_multiplexed_model_id": "other",
    "X-Session-Id": "mine",
    "X-Serve-Router-Target": "mine",
    "X-Request-ID": "chosen-by-a-stranger",
    "X-Request-Start": "t=1000000000.000",
    "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "Cookie": "a=b",
}


@dataclass
class Behind:
    """A server behind the edge that notes what reaches it."""

    port: int
    heads: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    """Until it is set nobody is answered."""
    hangs_up: bool = False
    """Whether it closes the connection instead of answering."""


@contextlib.contextmanager
def server(hangs_up: bool = False, waits: bool = False) -> Iterator[Behind]:
    """Run such a server; it answers 200 with `{}`, when it may."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            behind.heads.append({name.lower(): value for name, value in self.headers.items()})
            behind.bodies.append(self.rfile.read(int(self.headers.get("content-length", "0"))))
            behind.open.wait(60)
            if behind.hangs_up:
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST

        def log_message(self, *given: object) -> None:
            """Say nothing."""

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    behind = Behind(running.server_address[1], hangs_up=hangs_up)
    if not waits:
        behind.open.set()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield behind
    finally:
        behind.open.set()
        running.shutdown()
        running.server_close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edge, Behind]]:
    """The edge as it is shipped, and a server behind it."""
    folder = tmp_path_factory.mktemp("edge") / "plain"
    with server() as behind, run_edge(folder, [behind.port]) as edge:
        yield edge, behind


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Give status and place of an error, which must have the form of all errors."""
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, ErrorResponse.model_validate_json(answer.content).error.where


def test_nginx_finds_no_fault_and_a_mistake_is_found(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    judged = check_configuration(write_configuration(tmp_path, [1, 1], (2, 3), {}))
    assert judged.returncode == 0, judged.stderr
    assert "warn" not in judged.stderr

    wrong = {"limit_req_status 429": "limit_req_statis 429"}
    judged = check_configuration(write_configuration(tmp_path, [1, 1], (2, 3), wrong))
    assert judged.returncode == 1


def test_its_limits_are_those_of_the_default_configuration() -> None:
    text, serving = SHIPPED.read_text(), ServingConfig()
    assert f"client_max_body_size {serving.max_body_mb:g}m;" in text
    assert f"client_body_timeout {serving.body_seconds:g}s;" in text
    assert f"server {serving.host}:{serving.port} " in text


@pytest.mark.parametrize(
    ("version", "ciphers", "refused"),
    [
        (ssl.TLSVersion.TLSv1_3, None, None),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", None),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA", "HANDSHAKE_FAILURE"),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", "ALERT_PROTOCOL_VERSION"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_only_good_tls_is_spoken(
    plain: tuple[Edge, Behind], version: ssl.TLSVersion, ciphers: str | None, refused: str | None
) -> None:
    edge, _ = plain
    context = ssl.create_default_context(cafile=str(edge.folder / "edge.crt"))
    if ciphers is not None:
        context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", edge.port)) as raw:
        if refused is None:
            with context.wrap_socket(raw, server_hostname="127.0.0.1") as secure:
                assert secure.version() == version.name.replace("_", ".")
        else:
            # The server's alert, not a scruple of this client's.
            with pytest.raises(ssl.SSLError, match=refused):
                context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_plain_http_is_refused_at_both_ports_and_reaches_nobody(
    plain: tuple[Edge, Behind],
) -> None:
    edge, behind = plain
    before = len(behind.heads)
    for url in (edge.plain_url, edge.url.replace("https", "http")):
        answer = httpx.post(f"{url}{PREDICT}", json={}, headers={"Authorization": "Bearer k"})
        assert refusal(answer) == (400, "scheme")
        assert "location" not in answer.headers
    assert len(behind.heads) == before


def test_what_only_ray_may_say_is_not_handed_on_and_what_replicas_need_is(
    plain: tuple[Edge, Behind],
) -> None:
    edge, behind = plain
    needed = {
        "authorization": "Bearer msk_x",
        "x-api-key": "msk_x",
        "content-type": "application/json",
        "inference-header-content-length": "2",
        "accept": "application/vnd.apache.arrow.stream",
    }
    with edge.client(**STRANGE) as client:
        answer = client.post(PREDICT, content=b"{}", headers=needed)

    assert answer.status_code == 200
    head = behind.heads[-1]
    assert {name: head.get(name) for name in needed} == needed
    began = float(head.pop("x-request-start").removeprefix("t="))
    assert abs(time.time() - began) < 60
    given = head.pop("x-request-id")
    assert len(given) == 32
    assert answer.headers.get_list("x-request-id") == [given]
    assert not {name.lower() for name in STRANGE} & {*head}
    assert {*head} == {*needed, "host", "content-length"}


@pytest.mark.parametrize(
    "path", ["/metrics", "/-/routes", "/-/healthz", "/stats", "/internal/route"]
)
def test_what_belongs_to_those_who_run_it_is_hidden(plain: tuple[Edge, Behind], path: str) -> None:
    edge, behind = plain
    before = len(behind.heads)
    with edge.client() as client:
        assert refusal(client.get(path)) == (404, "path")
    assert len(behind.heads) == before


def test_a_body_that_is_too_long_is_refused_said_or_not(plain: tuple[Edge, Behind]) -> None:
    edge, behind = plain
    body = b" " * (16 * 2**20 + 1)
    before = len(behind.heads)
    with edge.client() as client:
        assert refusal(client.post(PREDICT, content=body)) == (413, "body")
        pieces = (body[first : first + 2**20] for first in range(0, len(body), 2**20))
        assert refusal(client.post(PREDICT, content=pieces)) == (413, "body")
    assert len(behind.heads) == before
    with edge.client() as client:
        assert client.post(PREDICT, content=body[:-1]).status_code == 200
    assert len(behind.bodies[-1]) == len(body) - 1


def test_what_is_no_http_is_told_so_in_json(plain: tuple[Edge, Behind]) -> None:
    edge, _ = plain
    with edge.client() as client:
        assert refusal(client.get("/healthz", headers={"X": "y" * 20_000})) == (400, "request")
        assert refusal(client.request("TRACE", "/healthz")) == (405, "path")


@pytest.mark.parametrize(
    "line",
    [
        b"no http",
        b"GET /%zz HTTP/1.1",
        b"GET /../../x HTTP/1.1",
        b"\x00",
        # nginx's own words for these are 505 and 501, and a page of HTML.
        b"GET / HTTP/9.9",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: other",
    ],
)
def test_a_request_line_that_cannot_be_read_is_no_fault_of_the_server(
    plain: tuple[Edge, Behind], line: bytes
) -> None:
    edge, _ = plain
    with edge.trust.wrap_socket(
        socket.create_connection(("127.0.0.1", edge.port)), server_hostname="127.0.0.1"
    ) as spoken:
        spoken.sendall(line + b"\r\nHost: here\r\n\r\n")
        head, _, body = spoken.recv(65536).partition(b"\r\n\r\n")
    assert head.split()[1] == b"400", head
    assert ErrorResponse.model_validate_json(body).error.where == "request"


def test_one_caller_is_slowed_down_and_another_is_not(tmp_path: Path) -> None:
    slow = {"rate=2000r/s": "rate=1r/m", "burst=1000 nodelay": "burst=2 nodelay"}
    with (
        server() as behind,
        run_edge(tmp_path / "edge", [behind.port], slow) as edge,
        edge.client() as client,
    ):
        one = [client.get("/readyz", headers={"x-api-key": "msk_a.one"}) for _ in range(5)]
        other = client.get("/readyz", headers={"Authorization": "Bearer msk_a.two"})

    assert [answer.status_code for answer in one] == [200, 200, 200, 429, 429]
    assert refusal(one[-1]) == (429, "requests")
    assert one[-1].headers["retry-after"] == "1"
    assert other.status_code == 200
    assert len(behind.heads) == 4


def test_strangers_with_ever_new_keys_are_slowed_down_by_address(tmp_path: Path) -> None:
    slow = {"rate=5000r/s": "rate=1r/m", "burst=2500 nodelay": "burst=2 nodelay"}
    with (
        server() as behind,
        run_edge(tmp_path / "edge", [behind.port], slow) as edge,
        edge.client() as client,
    ):
        answers = [client.get("/readyz", headers={"x-api-key": f"msk_{i}"}) for i in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]


@pytest.mark.parametrize(
    "change",
    [
        {"mainspring_caller_under_way 128": "mainspring_caller_under_way 3"},
        {"mainspring_under_way 192": "mainspring_under_way 3"},
    ],
)
def test_more_than_may_be_under_way_are_told_to_come_again(
    tmp_path: Path, change: dict[str, str]
) -> None:
    with (
        server(waits=True) as behind,
        run_edge(tmp_path / "edge", [behind.port], change) as edge,
        edge.client() as client,
        concurrent.futures.ThreadPoolExecutor(3) as pool,
    ):
        first = [pool.submit(client.post, PREDICT, content=b"{}") for _ in range(3)]
        wait_for(lambda: len(behind.heads) == 3)
        shed = client.post(PREDICT, content=b"{}")
        behind.open.set()
        answers = [each.result().status_code for each in first]
        later = client.post(PREDICT, content=b"{}")

    assert refusal(shed) == (503, "server")
    assert shed.headers["retry-after"] == "1"
    assert answers == [200, 200, 200]
    assert later.status_code == 200


def wait_for(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "path",
    [PREDICT, "/v1/flights/explain", "/v1/flights/labels", "/v2/models/flights/infer"],
)
def test_a_request_whose_server_hangs_up_goes_to_one_other_with_the_same_name(
    tmp_path: Path, path: str
) -> None:
    with (
        server(hangs_up=True) as dying,
        server() as living,
        run_edge(tmp_path / "edge", [dying.port, living.port]) as edge,
        edge.client() as client,
    ):
        answers = [client.post(path, content=b"{}") for _ in range(4)]

    assert [answer.status_code for answer in answers] == 4 * [200]
    names = [head["x-request-id"] for head in living.heads]
    assert names == [answer.headers["x-request-id"] for answer in answers]
    assert len(set(names)) == 4
    assert dying.heads
    assert {head["x-request-id"] for head in dying.heads} < set(names)
    times = {head["x-request-id"]: head["x-request-start"] for head in living.heads}
    for head in dying.heads:
        assert times[head["x-request-id"]] == head["x-request-start"]


def test_a_request_is_tried_twice_at_most_and_then_refused_in_json(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        dying = [stack.enter_context(server(hangs_up=True)) for _ in range(3)]
        edge = stack.enter_context(run_edge(tmp_path / "edge", [each.port for each in dying]))
        client = stack.enter_context(edge.client())
        answer = client.post(PREDICT, content=b"{}")
        assert refusal(answer) == (503, "server")
        assert answer.headers["retry-after"] == "1"
        assert [len(each.heads) for each in dying].count(1) == 2
        assert sum(len(each.heads) for each in dying) == 2


def test_what_may_not_be_done_twice_is_not_sent_twice(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        dying = [stack.enter_context(server(hangs_up=True)) for _ in range(2)]
        edge = stack.enter_context(run_edge(tmp_path / "edge", [each.port for each in dying]))
        client = stack.enter_context(edge.client())
        assert client.post("/v1/flights/promote", content=b"{}").status_code == 503
        assert sum(len(each.heads) for each in dying) == 1


@dataclass
class Replicas:
    """A model whose rows come without ids, for replicas that are processes of a test."""

    config: Config
    file: Path
    key: dict[str, str]

    def rows(self, number: int) -> list[dict[str, Any]]:
        """Make rows without ids."""
        rows = make_rows(self.config.contract, number)
        return [{k: v for k, v in row.items() if k != "flight_id"} for row in rows]


@pytest.fixture
def replicas(tmp_path: Path) -> Replicas:
    """A champion, a key, a configuration file."""
    return make_replicas(tmp_path, "serving.port=0")


def make_replicas(folder: Path, *overrides: str) -> Replicas:
    shipped = load_config(ROOT / "configs" / "flights.yaml")
    columns = [column.model_dump(mode="json") for column in shipped.contract.columns]
    columns[0]["generated"] = True
    contract = f"contract.columns={json.dumps(columns)}"
    config, file = prepare_flights(folder, "clock=wall", contract, *overrides)
    key = Keyring(config.workspace).create("edge", ROLES, datetime.now(UTC)).get_secret_value()
    return Replicas(config, file, {"Authorization": f"Bearer {key}"})


def test_a_row_that_was_kept_by_a_replica_that_died_counts_once(
    tmp_path: Path, replicas: Replicas
) -> None:
    one, two = free_ports(2)
    log = tmp_path / "log"
    with (
        run_replica(replicas.file, one, log, "--die-before-answer") as dying,
        run_replica(replicas.file, two, log),
        run_edge(tmp_path / "edge", [one, two]) as edge,
        edge.client(**replicas.key) as client,
    ):
        answers = [client.post(PREDICT, json={"rows": replicas.rows(2)}) for _ in range(3)]
        dying.wait(30)

    assert [answer.status_code for answer in answers] == [200, 200, 200], edge.errors()
    named = [item["row_id"] for answer in answers for item in answer.json()["predictions"]]
    tables = open_tables(replicas.config)
    adopt_spools(replicas.config.spool_path, tables)
    logged = tables.read("predictions")
    assert dying.returncode == -signal.SIGKILL
    assert len(set(named)) == 6
    # One request was kept by both: two rows too many, under names that are there already.
    assert logged.num_rows == 8
    assert set(logged["idempotency_key"].to_pylist()) == set(named)
    assert len(set(logged["prediction_id"].to_pylist())) == 6


def test_requests_under_way_at_a_replica_that_is_killed_are_answered_by_another(
    tmp_path: Path, replicas: Replicas
) -> None:
    one, two = free_ports(2)
    log = tmp_path / "log"
    body = {"rows": replicas.rows(1)}
    with (
        run_replica(replicas.file, one, log) as dying,
        run_replica(replicas.file, two, log),
        run_edge(tmp_path / "edge", [one, two]) as edge,
        edge.client(**replicas.key) as client,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        os.kill(dying.pid, signal.SIGSTOP)
        sent = [pool.submit(client.post, PREDICT, json=body) for _ in range(8)]
        done, waiting = concurrent.futures.wait(sent, timeout=5)
        os.kill(dying.pid, signal.SIGKILL)
        answers = [each.result() for each in sent]

    assert done
    assert waiting
    assert [answer.status_code for answer in answers] == 8 * [200], edge.errors()
    tables = open_tables(replicas.config)
    adopt_spools(replicas.config.spool_path, tables)
    named = [answer.json()["predictions"][0]["row_id"] for answer in answers]
    assert sorted(tables.read("predictions")["idempotency_key"].to_pylist()) == sorted(named)


@pytest.mark.slow
def test_a_replicas_own_refusals_pass_haproxy_and_the_edge_as_they_are(tmp_path: Path) -> None:
    replicas = make_replicas(
        tmp_path,
        "serving={port: 0, max_ongoing_requests: 2, max_rows_per_request: 200}",
        "cluster={num_cpus: 4, object_store_mb: 100, dashboard: false}",
    )
    now = datetime.now(UTC)
    poor = Keyring(replicas.config.workspace).create(
        "poor", ("predict",), now, limits=Limits(rows_per_day=1)
    )
    poor_key = {"Authorization": f"Bearer {poor.get_secret_value()}"}
    row = replicas.rows(1)
    with (
        serve_job(replicas.file, tmp_path / "log") as url,
        run_edge(tmp_path / "edge", [httpx.URL(url).port or 0]) as edge,
        edge.client(**replicas.key) as client,
        concurrent.futures.ThreadPoolExecutor(24) as pool,
    ):
        wait_for(lambda: client.get("/readyz").status_code == 200, 120)
        assert refusal(client.post(PREDICT, json=[])) == (400, "body")
        assert refusal(client.get("/nowhere", headers={"Authorization": "x"}))[0] == 401
        assert refusal(client.get(PREDICT))[0] == 405
        assert refusal(client.post(PREDICT, json={"rows": row * 201})) == (413, "rows")
        assert refusal(client.post(PREDICT, json={"rows": [{}]})) == (422, "rows")
        first = client.post(PREDICT, json={"rows": row}, headers=poor_key)
        over = client.post(PREDICT, json={"rows": row}, headers=poor_key)
        many = [pool.submit(client.post, PREDICT, json={"rows": row * 150}) for _ in range(96)]
        answers = [each.result() for each in many]

    assert first.status_code == 200
    assert refusal(over) == (429, "rows")
    assert int(over.headers["retry-after"]) >= 1
    assert {answer.status_code for answer in answers} == {200, 503}
    shed = [answer for answer in answers if answer.status_code == 503]
    assert {refusal(answer) for answer in shed} == {(503, "server")}
    assert {answer.headers["retry-after"] for answer in shed} == {"1"}
    assert all("under way" in answer.text for answer in shed)


@pytest.mark.slow
@pytest.mark.chaos
def test_small_and_large_requests_under_way_at_a_killed_replica_are_answered_behind_haproxy(
    tmp_path: Path,
) -> None:
    replicas = make_replicas(
        tmp_path,
        "serving={port: 0, num_replicas: 2}",
        "cluster={num_cpus: 4, object_store_mb: 100, dashboard: false}",
    )
    # HAProxy tries again what fits its buffer of 16 kB; the edge, what does not.
    small, large = replicas.rows(1), replicas.rows(200)
    with (
        serve_job(replicas.file, tmp_path / "log") as url,
        run_edge(tmp_path / "edge", [httpx.URL(url).port or 0]) as edge,
        edge.client(**replicas.key) as client,
    ):
        for rows in (large, small):
            wait_for(lambda: len(spool_owners(replicas.config)) == 2, 120)
            wait_for(lambda: client.get("/readyz").status_code == 200, 120)
            # HAProxy is told of a replica a moment after it has begun.
            time.sleep(3)
            num_waiting, answers = send_and_kill(replicas, client, rows)
            assert num_waiting > 0
            failed = [(a.status_code, a.text) for a in answers if a.status_code != 200]
            assert failed == [], edge.errors()
            sys.stdout.write(f"{num_waiting} of {len(answers)} under way at the kill\n")
    tries = Counter(json.loads(line)["tries"] for line in (edge.folder / "access.log").open())
    sys.stdout.write(f"tries by the edge: {dict(tries)}\n")
    assert any(tried.startswith("500") and tried.endswith("200") for tried in tries)


def send_and_kill(
    replicas: Replicas, client: httpx.Client, rows: list[dict[str, Any]]
) -> tuple[int, list[httpx.Response]]:
    """Send many requests, kill a replica that has some of them; say how many waited for it."""
    victim = min(spool_owners(replicas.config).values())
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        os.kill(victim, signal.SIGSTOP)
        sent = [pool.submit(client.post, PREDICT, json={"rows": rows}) for _ in range(24)]
        _, waiting = concurrent.futures.wait(sent, timeout=3)
        os.kill(victim, signal.SIGKILL)
        return len(waiting), [each.result() for each in sent]

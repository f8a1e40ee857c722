"""What loads at a constant rate: when it sends, what it counts, by TLS and without."""

import http.server
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.faults.ramp import Dials, by_window, seconds_until_good
from benchmarks.faults.world import goodput, percentile_ms, refusals, statuses
from benchmarks.serving.bodies import MARK, Asked
from benchmarks.serving.steady import Senders, Sent, act, ramp, steady
from tests.edge_world import write_certificate

ANSWER = b'{"predictions":[{"probability":0.25}]}'
REFUSAL = b'{"error":{"where":"server","got":"7 requests under way","change":"wait"}}'
FORM = {"path": "/", "headers": {}, "before": '{"rows":[', "after": "]}"}


class Behind(http.server.ThreadingHTTPServer):
    """A server that answers as it is told, in turn."""

    def __init__(self, answers: Sequence[tuple[int, bytes, bool]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.num_asked, self.num_connections = answers, 0, 0
        self.lock = threading.Lock()

    def next_answer(self) -> tuple[int, bytes, bool]:
        with self.lock:
            self.num_asked += 1
            return self.answers[(self.num_asked - 1) % len(self.answers)]

    def handle_error(self, *given: object) -> None:
        """Say nothing of clients that went away."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Behind

    def setup(self) -> None:
        super().setup()
        self.server.num_connections += 1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status, body, closes = self.server.next_answer()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if closes:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given: object) -> None:
        """Say nothing."""


@contextmanager
def server(*answers: tuple[int, bytes, bool], tls: Path | None = None) -> Iterator[Behind]:
    running = Behind(answers or ((200, ANSWER, False),))
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "edge.crt", tls / "edge.key")
        running.socket = context.wrap_socket(running.socket, server_side=True)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield running
    finally:
        running.shutdown()
        running.server_close()


@pytest.fixture
def world_file(tmp_path: Path) -> Path:
    file = tmp_path / "requests.json"
    rows = [{"flight_id": MARK, "x": number} for number in range(3)]
    file.write_text(json.dumps({"rows": rows, "probabilities": [0.25, 0.25, 0.25]}))
    return file


def test_each_request_is_sent_once_when_it_is_due_and_counted_by_status(world_file: Path) -> None:
    with server((200, ANSWER, False), (503, REFUSAL, False), (503, REFUSAL, True)) as behind:
        dues = steady(200, 0.3)
        heard = act(str(world_file), behind.server_address, None, FORM, 1, dues, 2)
    sent = [Sent(*each) for each in heard["sent"]]

    assert behind.num_asked == len(sent) == 60
    assert sorted(each.due for each in sent) == dues
    assert min(each.seconds for each in sent) > 0
    assert statuses(sent) == {"200": 20, "503": 40}
    assert refusals(sent) == {"503 requests under way": 40}
    assert goodput(sent, 0.3) == pytest.approx(20 / 0.3)
    assert heard["num_wrong"] == 0


def test_connections_are_kept_by_tls_too(world_file: Path, tmp_path: Path) -> None:
    write_certificate(tmp_path)
    with server(tls=tmp_path) as behind:
        certificate = str(tmp_path / "edge.crt")
        heard = act(
            str(world_file), behind.server_address, certificate, FORM, 1, steady(100, 0.2), 2
        )
    assert [Sent(*each).status for each in heard["sent"]] == 20 * [200]
    assert behind.num_connections <= 2


def test_an_answer_for_another_row_is_found_out(world_file: Path) -> None:
    with server((200, ANSWER.replace(b"0.25", b"0.26"), False)) as behind:
        heard = act(str(world_file), behind.server_address, None, FORM, 1, [0.0, 0.01])
    assert heard["num_wrong"] == 2


def test_callers_ask_again_when_they_are_answered(world_file: Path) -> None:
    with server() as behind:
        heard = act(str(world_file), behind.server_address, None, FORM, 1, callers=(2, 0.3))
    assert len(heard["sent"]) == behind.num_asked > 2
    assert behind.num_connections == 2


def test_a_connection_that_breaks_off_is_counted_and_another_is_opened(world_file: Path) -> None:
    class Rude(Handler):
        def do_POST(self) -> None:
            if self.server.next_answer()[0] == 0:
                self.close_connection = True
                return
            super().do_POST()

    with server((0, b"", True), (200, ANSWER, False)) as behind:
        behind.RequestHandlerClass = Rude
        heard = act(str(world_file), behind.server_address, None, FORM, 1, steady(50, 0.2), 1)
    counted = Counter(Sent(*each).status for each in heard["sent"])
    assert counted[0] > 0
    assert sum(counted.values()) == 10


def test_a_connection_that_was_ended_while_it_was_idle_is_not_asked() -> None:
    class Ends(Handler):
        def do_POST(self) -> None:
            super().do_POST()
            self.close_connection = True

    asked = Asked(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", [0.25])
    with server() as behind:
        behind.RequestHandlerClass = Ends
        senders = Senders(behind.server_address, iter(lambda: asked, None))
        senders.run([0.0], 1)
        time.sleep(0.2)
        sent = senders.run_callers(1, 0.0001)
    assert [each.status for each in sent] == [200, 200]


def test_a_request_that_finds_no_connection_counts_from_when_it_was_due(world_file: Path) -> None:
    with server() as behind:
        asked: Iterator[Asked] = iter(
            lambda: Asked(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", [0.25]), None
        )
        sent = Senders(behind.server_address, asked).run([0.0] * 30, 1)
    assert {each.due for each in sent} == {0.0}
    assert all(0 <= each.late < each.seconds for each in sent)
    assert sent[-1].late > sent[0].seconds
    assert [each.seconds for each in sent] == sorted(each.seconds for each in sent)


def test_a_ramp_begins_and_ends_at_its_rates() -> None:
    dues = ramp(10 / 60, 50, 60)
    assert len(dues) == round((10 / 60 + 50) / 2 * 60)
    assert dues == sorted(dues)
    assert dues[0] == 0
    assert dues[-1] < 60
    assert 45 <= sum(due >= 59 for due in dues) <= 50
    assert ramp(5, 5, 2) == steady(5, 2)


def test_percentiles_are_of_answers_only_and_recovery_is_counted_from_the_ramp() -> None:
    dials = Dials(ramp_seconds=10, hold_seconds=20, objective_ms=100)
    slow = [Sent(due, 0.5, 200, "") for due in (1.0, 11.0, 16.0)]
    quick = [Sent(due, 0.05, 200, "") for due in (21.0, 26.0)]
    refused = [Sent(27.0, 9.0, 503, "7 requests under way")]

    assert percentile_ms(quick + refused, 0.99) == pytest.approx(50)
    assert [round(each) for each in by_window(slow + quick)] == [500, 500, 500, 50, 50]
    assert seconds_until_good(slow + quick, dials) == 10
    assert seconds_until_good(quick, dials) == 0
    assert seconds_until_good(slow + quick + [Sent(29.9, 0.5, 200, "")], dials) is None

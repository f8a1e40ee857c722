import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pyarrow as pa
import pytest

from app.config import Config
from app.console.replay import Endpoint, Traffic, json_rows, periods
from app.contracts.rows import TIMESTAMP

DAY = datetime(2013, 4, 1, tzinfo=UTC)


def traffic(flights: Config) -> Traffic:
    """Three rows asked at 01:00, 02:00 and 03:00, given out of order; outcomes a day later."""
    departures = [DAY + timedelta(hours=h) for h in (3, 2, 4)]
    rows = pa.table(
        {"flight_id": ["b", "a", "c"], "scheduled_departure": pa.array(departures, TIMESTAMP)}
    )
    labels = pa.table(
        {
            "row_id": ["a", "b"],
            "label": [0, 1],
            "known_at": pa.array([DAY + timedelta(days=1), DAY + timedelta(days=2)], TIMESTAMP),
        }
    )
    return Traffic.of(rows, labels, flights)


def test_rows_are_asked_the_lead_before_their_event(flights: Config) -> None:
    given = traffic(flights)
    asked = given.rows_between(DAY + timedelta(hours=1), DAY + timedelta(hours=3))
    assert asked["flight_id"].to_pylist() == ["a", "b"]


def test_every_row_and_every_outcome_is_sent_in_exactly_one_period(flights: Config) -> None:
    replay = flights.replay.model_copy(update={"until": date(2013, 4, 3)})
    short = flights.model_copy(update={"replay": replay})
    days, given = list(periods(short)), traffic(flights)
    assert all(end == start for (_, end), (start, _) in pairwise(days))
    rows = pa.concat_tables(given.rows_between(*day) for day in days)
    outcomes = pa.concat_tables(given.labels_between(*day) for day in days)
    assert rows["flight_id"].to_pylist() == ["a", "b", "c"]
    assert outcomes["row_id"].to_pylist() == ["a", "b"]


def test_an_outcome_known_at_the_end_of_a_period_belongs_to_it(flights: Config) -> None:
    known = traffic(flights).labels_between(DAY, DAY + timedelta(days=1))
    assert known["row_id"].to_pylist() == ["a"]


def test_times_travel_with_their_zone(flights: Config) -> None:
    row = json_rows(traffic(flights).rows)[0]
    assert row["scheduled_departure"] == DAY + timedelta(hours=2)
    assert row["scheduled_departure"].tzinfo is not None


ANSWERS = {
    "good": (200, {"version": "v", "predictions": [{"row_id": "a", "probability": 0.25}],
                   "rejected": [{"row": 1, "reasons": ["wind"]}]}),
    "all bad": (422, {"error": {}, "rejected": [{"row": 0, "reasons": ["wind"]}]}),
    "malformed": (422, {"error": {}}),
    "down": (500, {}),
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A real HTTP server that answers as told by its `answer` attribute."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = ANSWERS[self.server.answer]  # type: ignore[attr-defined]
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize(
    ("answer", "failed", "rejected", "kept"),
    [
        ("good", 0, 1, {"a": 0.25}),
        ("all bad", 0, 1, {}),
        ("malformed", 1, 0, {}),
        ("down", 1, 0, {}),
    ],
)
def test_a_refused_row_is_no_failed_request_and_every_failure_counts(
    server: ThreadingHTTPServer, answer: str, failed: int, rejected: int, kept: dict[str, float]
) -> None:
    server.answer = answer  # type: ignore[attr-defined]
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_address[1]}", "flights")
    endpoint.predict([{"flight_id": "a"}, {"flight_id": "b"}])
    tally = endpoint.tally
    assert (tally.requests, tally.failed, tally.rejected) == (1, failed, rejected)
    assert tally.probability == kept
    assert len(tally.failures) == failed


def test_an_endpoint_that_nobody_serves_is_a_failed_request() -> None:
    endpoint = Endpoint("http://127.0.0.1:9", "flights")
    endpoint.predict([{"flight_id": "a"}])
    assert (endpoint.tally.requests, endpoint.tally.failed, endpoint.tally.rows) == (1, 1, 0)

"""Replay recorded rows as production traffic: move the clock, send requests, read status.

Knows HTTP, the clock and the status; knows nothing of monitoring, policy, training or the registry.
What happens to the model happens because the running parts saw the traffic.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import requests
from numpy.typing import NDArray
from pydantic import SecretStr

from app.config import Config
from app.console.status import Status, read_status
from app.contracts.rows import TIMESTAMP
from app.contracts.times import micros_in, micros_of
from app.ledger.clock import drive_clock
from app.ledger.database import Ledger
from app.model.evaluation import roc_auc

TICK_HOUR_UTC = 11
SETTLE_SECONDS = 3600.0
QUALITY_DAYS = 30
TIMEOUT_SECONDS = 60.0


class ReplayError(RuntimeError):
    """The replay cannot go on; the message says what was waited for."""


@dataclass(frozen=True)
class Traffic:
    """Recorded rows and outcomes, each in the order in which production would see them."""

    rows: pa.Table
    prediction_time: pa.Array
    labels: pa.Table

    @classmethod
    def of(cls, rows: pa.Table, labels: pa.Table, config: Config) -> "Traffic":
        """Sort rows by prediction time (event time minus lead), outcomes by when they are known."""
        lead = pa.scalar(config.contract.lead, pa.duration("us"))
        event_time = rows[config.contract.event_time].cast(TIMESTAMP)
        asked = pc.subtract(event_time, lead).combine_chunks()
        order = pc.sort_indices(asked)
        known = labels.sort_by("known_at")
        return cls(rows.take(order), asked.take(order), known)

    def rows_between(self, start: datetime, end: datetime) -> pa.Table:
        """Rows to be predicted in [start, end)."""
        low, high = np.searchsorted(self._asked, [micros_of(start), micros_of(end)])
        return self.rows.slice(int(low), int(high - low))

    def labels_between(self, after: datetime, until: datetime) -> pa.Table:
        """Outcomes that become known in (after, until]."""
        low, high = np.searchsorted(self._known, [micros_of(after), micros_of(until)], side="right")
        return self.labels.slice(int(low), int(high - low))

    @property
    def _asked(self) -> NDArray[np.int64]:
        return np.asarray(micros_in(self.prediction_time))

    @property
    def _known(self) -> NDArray[np.int64]:
        return np.asarray(micros_in(self.labels["known_at"]))


@dataclass
class Tally:
    """What the replay has sent and got."""

    requests: int = 0
    failed: int = 0
    rows: int = 0
    rejected: int = 0
    labels: int = 0
    retried: int = 0
    probability: dict[str, float] = field(default_factory=dict)
    version: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    recent_auc: float | None = None


class Endpoint:
    """A client of the model's HTTP endpoint that counts every request and every failure."""

    def __init__(self, url: str, model: str, key: SecretStr | None = None) -> None:
        self.url = f"{url}/v1/{model}"
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        self.tally = Tally()
        self._lock = threading.Lock()
        self._local = threading.local()

    def predict(self, rows: list[dict[str, object]], *, retry: bool = False) -> None:
        """Send rows; a row sent again counts as retried, its row id is the idempotency key."""
        answer = self._post("predict", {"rows": rows})
        if answer is None:
            return
        with self._lock:
            if retry:
                self.tally.retried += len(rows)
                return
            self.tally.rows += len(rows)
            self.tally.rejected += len(answer["rejected"])
            for item in answer.get("predictions", ()):
                self.tally.probability[item["row_id"]] = item["probability"]
                self.tally.version[item["row_id"]] = item.get("version", answer["version"])

    def label(self, labels: list[dict[str, object]]) -> None:
        """Report outcomes."""
        answer = self._post("labels", {"labels": labels})
        if answer is not None:
            with self._lock:
                self.tally.labels += answer.get("accepted", 0)

    def _post(self, verb: str, body: dict[str, object]) -> dict[str, Any] | None:
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
        problem = ""
        try:
            answer = session.post(
                f"{self.url}/{verb}",
                data=orjson.dumps(body),
                headers=self._headers,
                timeout=TIMEOUT_SECONDS,
            )
            if answer.status_code != 200 and not _is_verdict(answer):
                problem = f"{verb}: {answer.status_code} {answer.text[:300]}"
        except requests.RequestException as error:
            problem = f"{verb}: {error}"
        with self._lock:
            self.tally.requests += 1
            if problem:
                self.tally.failed += 1
                self.tally.failures.append(problem)
        content: dict[str, Any] | None = None if problem else orjson.loads(answer.content)
        return content


class Replay:
    """Drive one model through recorded time, a day at a step."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        endpoint: Endpoint,
        traffic: Traffic,
        show: Callable[[datetime, Tally, Status], None],
    ) -> None:
        self.config = config
        self.ledger = ledger
        self.endpoint = endpoint
        self.traffic = traffic
        self.show = show
        self._recent: list[dict[str, object]] = []
        self._before = (0, 0)
        self._outcomes: deque[NDArray[np.float64]] = deque(maxlen=QUALITY_DAYS)

    def run(self) -> Tally:
        """Replay from the end of the history to the configured end; return what was sent."""
        begin = self.config.replay.start
        self._wait(lambda status: _settled(status, begin), "monitor and steward to start", begin)
        status = read_status(self.config, self.ledger)
        self._before = (status.num_predictions, status.num_labels)
        for start, end in periods(self.config):
            self.day(start, end)
        return self.endpoint.tally

    def day(self, start: datetime, end: datetime) -> None:
        """Send the rows of [start, end) and the outcomes known by its end, let the parts settle."""
        size = self.config.replay.rows_per_request
        rows = json_rows(self.traffic.rows_between(start, end))
        for batch in _batches(rows, size):
            self.endpoint.predict(batch)
        self._recent = rows[-20:] or self._recent
        drive_clock(self.ledger, self.config, now=end)
        labels = self.traffic.labels_between(start, end)
        for batch in _batches(json_rows(labels), 4 * size):
            self.endpoint.label(batch)
        self._score(labels)
        self._wait(self._delivered, "every answered row and label to reach the monitor", end)
        drive_clock(self.ledger, self.config, watermark=end)
        self._wait(lambda status: _settled(status, end), "monitor and steward to settle", end)

    def _score(self, labels: pa.Table) -> None:
        """Keep the AUC of the answers whose outcomes became known in the last days."""
        probability = self.endpoint.tally.probability
        pairs = [
            (probability[row], label)
            for row, label in zip(
                labels["row_id"].to_pylist(), labels["label"].to_pylist(), strict=True
            )
            if label is not None and row in probability
        ]
        self._outcomes.append(np.array(pairs).reshape(-1, 2).T)
        answered, known = np.concatenate(self._outcomes, axis=1)
        if 0 < known.sum() < len(known):
            self.endpoint.tally.recent_auc = roc_auc(known, answered)

    def _delivered(self, status: Status) -> bool:
        tally = self.endpoint.tally
        answered = self._before[0] + tally.rows - tally.rejected
        reported = self._before[1] + tally.labels
        return status.num_predictions >= answered and status.num_labels >= reported

    def _wait(self, done: Callable[[Status], bool], what: str, now: datetime) -> None:
        """Wait while the service stays in use: a retrying client sends recent rows again."""
        deadline = time.monotonic() + SETTLE_SECONDS
        asked_again = time.monotonic()
        while time.monotonic() < deadline:
            status = read_status(self.config, self.ledger)
            self.show(now, self.endpoint.tally, status)
            if done(status):
                return
            if time.monotonic() - asked_again > 1.0 and self._recent:
                self.endpoint.predict(self._recent, retry=True)
                asked_again = time.monotonic()
            time.sleep(0.03)
        raise ReplayError(
            f"{now:%Y-%m-%d}: waited {SETTLE_SECONDS:.0f} s for {what}; see jobs.status"
        )


def periods(config: Config) -> Iterator[tuple[datetime, datetime]]:
    """Give the days of the replay, each from tick to tick; the last two only mature the labels."""
    start, end_of_traffic = config.replay.start, config.replay.end
    end = start.replace(hour=TICK_HOUR_UTC)
    while start < end_of_traffic:
        yield start, min(end, end_of_traffic)
        start, end = min(end, end_of_traffic), end + timedelta(days=1)
    for _ in range(2):
        yield start, end
        start, end = end, end + timedelta(days=1)


def json_rows(table: pa.Table) -> list[dict[str, object]]:
    """Write rows as a client would: times in ISO 8601 with their zone, missing values as null."""
    rows: list[dict[str, object]] = table.to_pylist()
    return rows


def _is_verdict(answer: requests.Response) -> bool:
    """Tell whether a refusal says row by row what was wrong: bad rows were sent, nothing failed."""
    return answer.status_code == 422 and bool(answer.json().get("rejected"))


def _settled(status: Status, watermark: datetime) -> bool:
    parts = (status.monitor_watermark, status.steward_watermark)
    return all(part is not None and part >= watermark for part in parts)


def _batches(rows: list[dict[str, object]], size: int) -> Iterator[list[dict[str, object]]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]

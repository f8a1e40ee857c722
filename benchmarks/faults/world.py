"""Stand a model that costs something behind the shipped edge, and load it at constant rates.

`jobs.deploy` runs with a cluster of its own, HAProxy before its replicas and nginx, as shipped,
before that. A forward pass of some tens of milliseconds is what bounds how much is answered: a
generator that shares two cores with the servers could not overload a small model in earnest, as
it would cost as much as they do.
"""

import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.config import Config, load_config, show_config
from app.contracts.access import Limits
from app.data.rowwise import FEW_ROWS
from app.ledger.database import open_ledger
from app.registry.store import live_replicas
from app.sections import NetworkConfig
from app.security.access import Keyring
from benchmarks.harness.contenders import ask, started
from benchmarks.serving.bodies import Form
from benchmarks.serving.plain import CONFIG
from benchmarks.serving.steady import Sent
from benchmarks.serving.world import World, make_world
from tests.edge_world import Edge, run_edge
from tests.job_process import serve_job
from tests.serving_world import AT

GENERATOR = "benchmarks.serving.steady"
# More rows than are answered together with other requests': each costs what it costs alone.
ROWS = FEW_ROWS + 1
NUM_WORLD_ROWS = 40 * ROWS
READY_SECONDS = 180.0
# All that may be under way at the edge, and of one caller.
EDGE_LIMIT, CALLER_LIMIT = "mainspring_under_way 192", "mainspring_caller_under_way 128"


@dataclass(frozen=True)
class Endpoint:
    """A model that is served behind the edge."""

    config: Config
    world: World
    edge: Edge
    port: int
    """Of HAProxy."""

    def key(self, name: str, limits: Limits | None = None) -> str:
        """Make a key that may predict."""
        keyring = Keyring(self.config.workspace)
        return keyring.create(name, ["predict"], AT, limits=limits or Limits()).get_secret_value()

    def form(self, key: str) -> dict[str, Any]:
        """Say how requests are written."""
        headers = {"authorization": f"Bearer {key}"}
        return asdict(Form(f"/v1/{self.config.name}/predict", headers, '{"rows":[', "]}"))

    def num_ready(self) -> int:
        """Count the replicas that have a champion and told so lately."""
        with contextlib.closing(open_ledger(self.config.ledger_url)) as ledger:
            living = live_replicas(ledger, self.config.name, time.time())
        return sum(1 for each in living if each.resident)


class Generator:
    """Sends requests from a process of its own."""

    def __init__(self, process: Any, endpoint: Endpoint, key: str, rows: int = ROWS) -> None:
        """Take the process, and whose requests of how many rows it sends."""
        self._process, self._endpoint = process, endpoint
        self._key, self._rows = key, rows

    def __call__(self, **how: Any) -> list[Sent]:
        """Send as benchmarks.serving.steady.act says; to HAProxy where `direct`, else by the edge.

        Raises RuntimeError for an answer with another row's probabilities.
        """
        edge, direct = self._endpoint.edge, how.pop("direct", False)
        heard = ask(
            self._process,
            {
                "file": str(self._endpoint.world.requests),
                "address": ["127.0.0.1", self._endpoint.port if direct else edge.port],
                "trust": None if direct else str(edge.folder / "edge.crt"),
                "form": self._endpoint.form(self._key),
                "rows_per_request": self._rows,
                **how,
            },
        )
        if heard["num_wrong"]:
            raise RuntimeError(f"{heard['num_wrong']} answers are wrong, e.g. {heard['example']}")
        return [Sent(*each) for each in heard["sent"]]


@contextlib.contextmanager
def generating(served: Endpoint, key: str, rows: int = ROWS) -> Iterator[Generator]:
    """Run a generator for the length of a `with` block."""
    with started(GENERATOR, {}) as process:
        yield Generator(process, served, key, rows)


@contextlib.contextmanager
def endpoint(
    folder: Path,
    hidden: int,
    serving: Mapping[str, Any],
    edge: Mapping[str, str] | None = None,
    others: Sequence[str] = (),
) -> Iterator[Endpoint]:
    """Serve a network of this width, four layers deep, behind the edge; wait for all replicas.

    `serving` are settings of that section, `edge` lines of the shipped file to change, `others`
    further overrides of the configuration.
    """
    network = NetworkConfig(hidden=hidden, num_layers=4, embedding=8)
    world = make_world(folder, network, NUM_WORLD_ROWS)
    overrides = [
        f"workspace={world.workspace}",
        "clock=wall",
        "cluster={num_cpus: 4, object_store_mb: 200, dashboard: false}",
        "serving.port=0",
        *(f"serving.{name}={value}" for name, value in serving.items()),
        *others,
    ]
    config = load_config(CONFIG, overrides)
    file = folder / "flights.yaml"
    file.write_text(show_config(config))
    with serve_job(file, folder / "deploy.log") as url:
        port = httpx.URL(url).port
        assert port is not None
        with run_edge(folder / "edge", [port], edge) as running:
            served = Endpoint(config, world, running, port)
            least = config.serving.scaling
            await_replicas(served, least.min_replicas if least else config.serving.num_replicas)
            yield served


def await_replicas(served: Endpoint, number: int) -> None:
    """Wait until so many replicas answer. Raises TimeoutError."""
    deadline = time.monotonic() + READY_SECONDS
    while served.num_ready() < number:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{served.num_ready()} of {number} replicas after {READY_SECONDS} s")
        time.sleep(0.2)


def statuses(sent: Sequence[Sent]) -> dict[str, int]:
    """Count answers by status; 0 is a connection that broke off."""
    return {
        str(status): number for status, number in sorted(Counter(s.status for s in sent).items())
    }


def refusals(sent: Sequence[Sent]) -> dict[str, int]:
    """Count refusals by status and words, figures left out."""
    words = Counter(
        f"{s.status} {''.join(c for c in s.said if not c.isdigit()).strip()}"
        for s in sent
        if s.status != 200
    )
    return dict(words.most_common())


def percentile_ms(sent: Sequence[Sent], share: float) -> float:
    """Give a percentile of the time that answers took, refusals left out; NaN without one."""
    took = [each.seconds for each in sent if each.status == 200]
    return 1000 * float(np.quantile(took, share)) if took else float("nan")


def late_ms(sent: Sequence[Sent]) -> float:
    """Give the 99th percentile of how late the generator was: large, it measures itself."""
    return round(1000 * float(np.quantile([each.late for each in sent], 0.99)), 1)


def goodput(sent: Sequence[Sent], seconds: float) -> float:
    """Give the answers a second over the seconds in which requests were sent."""
    return sum(each.status == 200 for each in sent) / seconds


def median(figures: Sequence[float]) -> float:
    """Give the median of rounds, rounded for people."""
    return round(statistics.median(figures), 3)

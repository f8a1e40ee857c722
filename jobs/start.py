"""Go from a configuration to a served champion: ingest, serve, train, gate, promote, keep watching.

The same as jobs.ingest, jobs.deploy and jobs.operate one after the other, in one session.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import requests
import typer
from rich.console import Console

from app.config import Config, load_config
from app.console.narration import Narrator
from app.console.status import Status, read_status
from app.contracts.targets import require_binary
from app.data.ingestion import IngestResult
from app.ledger.database import open_ledger
from app.session import Cluster, session
from jobs import deploy, ingest, operate
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, stay, user_errors

READY_SECONDS = 3600.0
POLL_SECONDS = 0.5


class NoFirstModel(ValueError):
    """The first model was not trained, or did not pass the gate; the message says why."""


def main(
    config: ConfigFile,
    set_: Overrides = None,
) -> None:
    """Bring rows in, train a first model, serve it once the gate lets it through; stay up."""
    with user_errors():
        settings = load_config(config, set_ or [])
        require_binary(settings.contract, "serving")
        with session(settings) as cluster:
            report(run(settings, cluster, Console(stderr=True)))
            if cluster.started:
                stay("the endpoint")


def run(config: Config, cluster: Cluster, console: Console) -> dict[str, object]:
    """Start everything in a session that is open already; return once a champion answers."""
    began = time.monotonic()
    if config.clock != "wall":
        raise ValueError("clock: jobs.start goes by the machine's time; jobs.loop drives a clock")
    brought = ingest.run(config)
    _tell_rows(brought, console)
    url = deploy.run(config)
    operate.run(config, cluster)
    ledger = open_ledger(config.ledger_url)
    try:
        with Narrator(config, console) as narrator:
            version = _await_champion(
                url, lambda: read_status(config, ledger, datetime.now(UTC)), narrator
            )
    finally:
        ledger.close()
    return {
        "model": config.name,
        "url": url,
        "version": version,
        "rows": brought.num_accepted,
        "quarantined": brought.num_quarantined,
        "outcomes": brought.num_labels,
        "seconds": round(time.monotonic() - began, 1),
    }


def _tell_rows(brought: IngestResult, console: Console) -> None:
    console.print(
        f"{brought.num_in:,} new rows = {brought.num_accepted:,} accepted + "
        f"{brought.num_quarantined:,} quarantined; {brought.num_labels:,} outcomes",
        highlight=False,
    )


def _await_champion(url: str, status: Callable[[], Status], narrator: Narrator) -> str:
    """Wait for a first champion to answer, telling meanwhile what the loop does."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        seen = status()
        narrator.wait_for_champion(seen)
        answer = requests.get(f"{url}/readyz", timeout=10)
        if answer.status_code == 200:
            return str(answer.json()["version"])
        _refuse_hopeless(seen)
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"no champion after {READY_SECONDS:.0f} s; see python -m jobs.status")


def _refuse_hopeless(status: Status) -> None:
    """Raise NoFirstModel when the loop has tried and waits for something else than time."""
    if status.roles.champion is not None or status.phase != "observe":
        return
    for decision in reversed(status.decisions):
        if decision.action == "refuse":
            said = "; ".join(decision.reasons)
            raise NoFirstModel(f"the gate refused the first model: {said}; see loop.gate")
        if decision.outcome not in ("done", "under way"):
            raise NoFirstModel(f"{decision.action} failed: {decision.outcome}")
    if (
        status.steward_doing.startswith("observing")
        and "outcomes are known" in status.steward_doing
    ):
        raise NoFirstModel(f"{status.steward_doing}; lower loop.governor.min_new_labels")


if __name__ == "__main__":
    typer.run(main)

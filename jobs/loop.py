"""Replay recorded rows as production: a model is trained, served, watched, replaced.

This job moves the clock, sends requests and labels over HTTP, and reads status. What happens to
the model is decided by the parts that run on the cluster; killing and restarting them changes
nothing of the outcome.
"""

import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Annotated

import orjson
import pyarrow as pa
import requests
import typer
from pydantic import SecretStr
from rich.console import Console

from app.config import Config, load_config, show_config
from app.console.narration import Narrator
from app.console.replay import Endpoint, Replay, Traffic, json_rows
from app.console.scoreboard import write_outcome
from app.console.status import read_status
from app.contracts.targets import require_binary
from app.data.ingestion import IngestResult
from app.data.sources import read_source
from app.ledger.clock import drive_clock
from app.ledger.database import Ledger, open_ledger
from app.security.access import Keyring
from app.session import Cluster, session
from jobs import deploy, ingest, operate
from jobs.options import ConfigFile, Overrides
from jobs.outcome import curl_command, report, stay, user_errors

READY_SECONDS = 3600.0
REPLAY_KEY = "replay"
KEPT = ("artifacts", "comparators", "keys")


def main(
    config: ConfigFile,
    set_: Overrides = None,
    fresh: Annotated[bool, typer.Option(help="Forget this workspace's earlier replay.")] = False,
    keep: Annotated[bool, typer.Option(help="Leave the endpoint up until Ctrl-C.")] = False,
    show: Annotated[bool, typer.Option(help="Print the effective configuration first.")] = False,
) -> None:
    """Train, serve, watch, retrain and replace a model on recorded rows; compare policies."""
    console = Console(stderr=True)
    with user_errors():
        settings = load_config(config, set_ or [])
        require_binary(settings.contract, "the replay")
        if show:
            console.print(show_config(settings), highlight=False)
        prepare_workspace(settings, fresh=fresh)
        console.print("[bold]Mainspring[/] starts a Ray cluster and brings in the history …")
        with session(settings) as cluster:
            record = replay(settings, cluster, console)
            if keep:
                console.print(f"try: {record['curl']}", soft_wrap=True, highlight=False)
            report(record)
            if keep:
                stay("the endpoint")


def prepare_workspace(config: Config, *, fresh: bool) -> None:
    """Refuse to mix two replays; with `fresh`, keep only keys, artifacts and comparator fits."""
    if config.clock != "driven":
        raise ValueError("clock: a replay needs clock: driven, got wall; use --set clock=driven")
    if (config.workspace / "ledger.sqlite").exists():
        if not fresh:
            raise ValueError(
                f"workspace: {config.workspace} holds an earlier replay; add --fresh to forget it, "
                "or set another workspace"
            )
        for entry in config.workspace.iterdir():
            if entry.name in KEPT:
                continue
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    config.workspace.mkdir(parents=True, exist_ok=True)


def replay(config: Config, cluster: Cluster, console: Console) -> dict[str, object]:
    """Bring in the history, start the parts, replay production, compare; return the record."""
    began = time.monotonic()
    start = config.replay.start
    ledger = open_ledger(config.ledger_url)
    drive_clock(ledger, config, now=start, watermark=start)
    _tell_history(ingest.run(config, until=start), console)
    url = deploy.run(config)
    operate.run(config, cluster)
    rows, labels = read_source(config)
    key = replay_key(config)
    endpoint = Endpoint(url, config.name, key)
    traffic = Traffic.of(rows, labels, config)
    with Narrator(config, console) as narrator:
        _await_champion(config, ledger, url, narrator)
        tally = Replay(config, ledger, endpoint, traffic, narrator.show).run()
    _rehearse(config, console)
    outcome = write_outcome(config, ledger, rows, labels, tally, time.monotonic() - began)
    console.print(outcome.table)
    console.print(f"page: {outcome.page}", soft_wrap=True)
    for failure in tally.failures[:5]:
        console.print(f"failed request: {failure}", style="red")
    return outcome.record | {"curl": curl_line(endpoint, rows, key)}


def replay_key(config: Config) -> SecretStr | None:
    """Make the key that this replay sends; that of an earlier one opens nothing from now on."""
    if config.serving.authentication == "none":
        return None
    keyring, now = Keyring(config.workspace), datetime.now(UTC)
    keyring.revoke(REPLAY_KEY, now)
    return keyring.create(REPLAY_KEY, ("predict", "label"), now)


def curl_line(endpoint: Endpoint, rows: pa.Table, key: SecretStr | None) -> str:
    """Write a command that asks the endpoint about the last recorded row."""
    body = orjson.dumps({"rows": json_rows(rows.slice(len(rows) - 1, 1))}).decode()
    return curl_command(f"{endpoint.url}/predict", body, key.get_secret_value() if key else "")


def _tell_history(history: IngestResult, console: Console) -> None:
    console.print(
        f"history: {history.num_in:,} rows = {history.num_accepted:,} accepted"
        f" + {history.num_quarantined:,} quarantined",
        highlight=False,
    )


def _await_champion(config: Config, ledger: Ledger, url: str, narrator: Narrator) -> None:
    """Wait for the first champion to answer, telling meanwhile what the loop does."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        narrator.wait_for_champion(read_status(config, ledger))
        if requests.get(f"{url}/readyz", timeout=10).status_code == 200:
            return
        time.sleep(0.5)
    raise TimeoutError(f"no champion after {READY_SECONDS:.0f} s; see python -m jobs.status")


def _rehearse(config: Config, console: Console) -> None:
    """Fit and score the comparators in a process of their own; they are no part of production."""
    console.print("fitting the policies to compare with …")
    path = config.workspace / "effective.yaml"
    command = [sys.executable, "-m", "jobs.rehearse", "--config", str(path)]
    done = subprocess.run(command, env=dict(os.environ), stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RuntimeError(f"jobs.rehearse ended with {done.returncode}; its message is above")


if __name__ == "__main__":
    typer.run(main)

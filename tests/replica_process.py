"""One replica in a process of its own, as Serve hosts it but without Ray: what may be killed.

Run as `python -m tests.replica_process CONFIG PORT [--die-before-answer] [--line-seconds=S]`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import Config, load_config, show_config
from app.ledger.database import open_ledger
from app.serving.api import build_api
from app.serving.lines import BoundedLine
from app.serving.process import settle
from app.serving.replica import Replica
from app.serving.whole import answer_whole
from tests.serving_world import give_roles, put_version

ROOT = Path(__file__).resolve().parent.parent


class DiesBeforeItAnswers:
    """Ends its process, as SIGKILL does, when a row is kept and its answer is about to be sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def last_words(message: Message) -> None:
            if scope["method"] == "POST":
                os.kill(os.getpid(), signal.SIGKILL)
            await send(message)

        await self._app(scope, receive, last_words if scope["type"] == "http" else send)


def prepare_flights(folder: Path, *overrides: str) -> tuple[Config, Path]:
    """Write a configuration of the flights, and make a version the champion of its workspace."""
    named = f"workspace={folder / 'workspace'}"
    config = load_config(ROOT / "configs" / "flights.yaml", [named, *overrides])
    config.workspace.mkdir(parents=True, exist_ok=True)
    file = folder / "flights.yaml"
    file.write_text(show_config(config))
    ledger = open_ledger(config.ledger_url)
    give_roles(ledger, config.name, put_version(config, ledger, seed=1))
    ledger.close()
    return config, file


@contextlib.contextmanager
def run_replica(
    config: Path, port: int, log: Path, *arguments: str, within: Sequence[str] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a replica that answers with a champion, and end it in good order.

    `within` is a command that runs the one after it in its own place.
    """
    replica = [sys.executable, "-m", "tests.replica_process", str(config), str(port), *arguments]
    command = [*within, *replica]
    with log.open("ab") as told:
        process = subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=told)
    try:
        _await_champion(process, port, log)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _await_champion(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        time.sleep(0.1)


def main(config: str, port: str, *arguments: str) -> None:
    settle()
    replica = Replica(load_config(config), wall=time.time, steady=time.monotonic)
    replica.start()
    app = build_api(replica)
    answer_whole()
    for argument in arguments:
        if argument == "--die-before-answer":
            app = DiesBeforeItAnswers(app)
        if argument.startswith("--line-seconds="):
            BoundedLine.head_seconds = float(argument.partition("=")[2])
    # When it has closed, the server sends itself the signal again, which would end all at once.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", lifespan="off")
    finally:
        replica.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])

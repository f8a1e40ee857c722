"""A monitor in a process of its own, as its actor runs it but without Ray: what may be killed.

Run as `python -m tests.monitor_process CONFIG`.
"""

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from app.config import load_config
from app.ledger.database import open_ledger
from app.monitoring.tail import Tail

ROOT = Path(__file__).resolve().parent.parent
PAUSE_SECONDS = 0.2


def start_monitor(config: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Begin to fold the logs of a model."""
    with log.open("ab") as told:
        command = [sys.executable, "-m", "tests.monitor_process", str(config)]
        return subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=told)


def main(config: str) -> None:
    settings = load_config(config)
    tail = Tail(settings, open_ledger(settings.ledger_url))
    while True:
        try:
            tail.tick(datetime.now(UTC), {})
            # At each look, so that whoever follows a killed one has something to resume from.
            tail.checkpoint(datetime.now(UTC))
        except SQLAlchemyError as error:
            sys.stderr.write(f"{type(error).__name__}\n")
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Make every statement to a SQLite ledger wait, for as long as this process lives.

Run as `python -m tests.stalled_ledger FILE`; it says "stalled" once nobody gets through. It holds
the locks that readers and writers of a database in WAL mode take for each transaction, so that they
wait as they would for a server that accepts connections and does not answer.
"""

import contextlib
import fcntl
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of the shared-memory file: the locks of writer, checkpoint, recovery, and of five readers.
FIRST_LOCK, NUM_LOCKS = 120, 8


@contextlib.contextmanager
def stalled(ledger: Path) -> Iterator[None]:
    """Let nobody read or write the ledger."""
    command = [sys.executable, "-m", "tests.stalled_ledger", str(ledger)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"stalled\n"
        try:
            yield
        finally:
            process.terminate()


def main(file: str) -> None:
    # An open connection keeps the shared-memory file there.
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    shared = os.open(f"{file}-shm", os.O_RDWR)
    fcntl.lockf(shared, fcntl.LOCK_EX, NUM_LOCKS, FIRST_LOCK)
    sys.stdout.write("stalled\n")
    sys.stdout.flush()
    time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Ship and adopt in a process of its own, so that whoever answers never waits for the interpreter.

Its owner tells it what to do, a line of JSON each, and reads a line when it is done. It holds the
lock of its owner's folder too: nobody adopts the folder while it still ships, however its owner
ended. When its owner is gone it finishes the line under way and ends. Runs as
`python -m app.serving.carrier`.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Literal, NamedTuple

import orjson
import pyarrow as pa

from app.background import no_rest
from app.config import Config
from app.data.arrivals import captured_arriving
from app.data.tables import Tables, open_tables
from app.ledger.database import Ledger, open_ledger
from app.security.secrets import pseudonym_key
from app.security.tombstones import Tombstones
from app.serving.erased import TombstoneWatch
from app.serving.reporting import report_losses
from app.serving.segments import CLOSED
from app.serving.shipping import Carrier

Task = Literal["ship", "adopt"]
MODULE = "app.serving.carrier"
# A quarter of what a process of the usual priority gets where both want a core: with every core
# taken by answers, that ships what they leave behind.
NICE = 5
END_SECONDS = 5.0
ATTEMPTS = 2


class CarrierError(RuntimeError):
    """The process could not do what it was told, or is gone."""


class _Ended(Exception):
    """The process ended before it answered."""


class Done(NamedTuple):
    """What has come of a task: rows by table, and what stopped it, if anything."""

    rows: dict[str, int]
    problem: str | None


def carry_here(
    config: Config,
    ledger: Ledger,
    tables: Tables,
    erased: TombstoneWatch,
    rest: Callable[[], None] = no_rest,
) -> Carrier:
    """Make what ships a model's captured rows in this process; `rest` as for a Carrier."""
    return Carrier(
        tables,
        lambda: captured_arriving(config, ledger, tables, erased.refresh),
        partial(report_losses, ledger, config.name),
        rest,
    )


class CarrierProcess:
    """Starts the process when there is something to do, and anew when it has died.

    What it had begun is done again: a segment that was shipped is not doubled. Safe to call from
    several threads.
    """

    def __init__(self, config: Config, lock: int) -> None:
        """Carry for a model; `lock` is the descriptor of the locked file of its owner's folder."""
        self._config, self._lock = config, lock
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()

    def ship(self, folder: Path, shipped: Counter[str]) -> None:
        """Have it do as ship_folder, if there is anything to ship. Raises CarrierError."""
        if any(folder.glob(f"*{CLOSED}")):
            self._have("ship", folder, shipped)

    def adopt(self, root: Path, adopted: Counter[str]) -> None:
        """Have it do as adopt_spools, if anybody else has a folder there. Raises CarrierError."""
        if sum(path.is_dir() for path in root.iterdir()) > 1:
            self._have("adopt", root, adopted)

    def close(self) -> None:
        """Let it end, and see that it has."""
        with self._guard:
            self._end()

    @property
    def pid(self) -> int | None:
        """The id of the process, if one was started."""
        return self._process.pid if self._process else None

    def _have(self, task: Task, folder: Path, counts: Counter[str]) -> None:
        with self._guard:
            done = self._ask(orjson.dumps([task, str(folder)]))
        counts.update(done.rows)
        if done.problem is not None:
            raise CarrierError(done.problem)

    def _ask(self, line: bytes) -> Done:
        for _ in range(ATTEMPTS):
            try:
                return Done(**orjson.loads(_exchange(self._process or self._start(), line)))
            except _Ended:
                self._end()
        raise CarrierError(f"{MODULE} ends before it has shipped anything, see its log")

    def _start(self) -> "subprocess.Popen[bytes]":
        paths = [path or str(Path.cwd()) for path in sys.path]
        # -P: what it imports is what this process does, whatever lies in the current folder.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._lock],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        _exchange(self._process, orjson.dumps(self._config.model_dump(mode="json")))
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _exchange(process: "subprocess.Popen[bytes]", line: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        raise _Ended from None
    answer = process.stdout.readline()
    if not answer.endswith(b"\n"):
        raise _Ended
    return answer


def main() -> None:
    """Do what the owner tells, until it closes the line."""
    os.nice(NICE)
    # The owner ends this process; whoever interrupts a group of processes means the owner.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    pa.set_cpu_count(1)
    # Whatever prints shall not answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    config = Config.model_validate(orjson.loads(sys.stdin.buffer.readline()))
    with contextlib.closing(open_ledger(config.ledger_url, later=True)) as ledger:
        erased = TombstoneWatch(ledger, config.name, Tombstones(pseudonym_key(config)))
        carrier = carry_here(config, ledger, open_tables(config), erased)
        _answer(answers, Done({}, None))
        while line := sys.stdin.buffer.readline():
            _answer(answers, _do(carrier, *orjson.loads(line)))


def _do(carrier: Carrier, task: Task, folder: str) -> Done:
    counts: Counter[str] = Counter()
    try:
        (carrier.ship if task == "ship" else carrier.adopt)(Path(folder), counts)
    except Exception as error:
        # Its owner says what happened, and when it is tried again.
        return Done(dict(counts), f"{type(error).__name__}: {error}")
    return Done(dict(counts), None)


def _answer(answers: IO[bytes], done: Done) -> None:
    # An owner that is gone reads nothing: the next line will be the end.
    with contextlib.suppress(BrokenPipeError):
        answers.write(orjson.dumps(done._asdict()) + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()

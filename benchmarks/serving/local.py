"""Listen on this machine: an ASGI application in this process, or a command under it."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import uvicorn

from benchmarks.harness.costs import tree

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 30.0
Address = dict[str, Any]


def free_port() -> int:
    """Find a free port of this machine."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def serve_here(application: Any) -> Address:
    """Serve by one uvicorn worker until this process ends; return where, once it listens."""
    port = free_port()
    config = uvicorn.Config(
        application, host=HOST, port=port, log_level="warning", access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return {"address": [HOST, port]}


def run_child(
    stack: contextlib.ExitStack, command: Sequence[str], port: int, environment: Mapping[str, str]
) -> Address:
    """Run a command that listens on a port until the stack ends; return where, once it does."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        # Stdout is for answers.
        stdout=sys.stderr,
    )
    stack.callback(_end, process)
    _await_port(process, port)
    return {"address": [HOST, port]}


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a command and all that it started: a server may leave its workers behind."""
    every = tree(process.pid)
    process.terminate()
    _, left = psutil.wait_procs(every, STOP_SECONDS / 10)
    for each in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(STOP_SECONDS)


def _await_port(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1.0):
            return
        time.sleep(0.1)
    raise TimeoutError(f"{process.args!r}: does not listen on {port}; see its messages")

"""Serve an ASGI application from a thread of this process, by one uvicorn worker."""

import socket
import threading
import time
from typing import Any

import uvicorn

HOST = "127.0.0.1"


def free_port() -> int:
    """Find a free port of this machine."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def serve_here(application: Any) -> dict[str, Any]:
    """Serve until this process ends; return where, once it listens."""
    port = free_port()
    lifespan = "auto" if hasattr(application, "router") else "off"
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            host=HOST,
            port=port,
            log_level="warning",
            access_log=False,
            lifespan=lifespan,
        )
    )
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return {"address": [HOST, port]}

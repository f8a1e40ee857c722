"""Ours with everything on: keys, checks, ids, capture, sealing, as the flights are configured.

The cluster, the replica and whatever stands before it are processes under this one. The ways in are
Serve's proxy, the replica's own port, HAProxy, and nginx before the replica's port; for the first
three the environment of this process is all that differs.
"""

import contextlib
import os
from pathlib import Path

from app.config import load_config
from benchmarks.harness.contenders import answer_commands
from benchmarks.serving.edge import before
from benchmarks.serving.local import Address, free_port
from benchmarks.serving.plain import CONFIG

# More callers wait than a replica takes by default; none of them shall be told to come later.
MAX_ONGOING = 256
HAPROXY = "RAY_SERVE_HAPROXY_"


def act(stack: contextlib.ExitStack, workspace: str, way: str) -> Address:
    """Deploy the champion of a workspace; return where it is reached."""
    overrides = [
        f"workspace={workspace}",
        "serving.port=0",
        f"serving.max_ongoing_requests={MAX_ONGOING}",
        "clock=wall",
        "cluster.dashboard=false",
    ]
    if way == "haproxy":
        os.environ.update(_apart(Path(workspace).parent / "h"))
        # HAProxy calls replicas by the node's address.
        overrides.append("serving.host=0.0.0.0")
    # Ray reads its environment when it is imported.
    from app.serving.application import deploy
    from app.session import session
    from benchmarks.serving.replicas import find_address

    config = load_config(CONFIG, overrides)
    stack.enter_context(session(config))
    found = find_address(config.name, deploy(config), way in ("direct", "edge"))
    if way != "edge":
        return found
    return before(stack, found, Path(workspace).parent / "edge")


def _apart(folder: Path) -> dict[str, str]:
    """Keep HAProxy's files and ports apart from those of any other cluster of this machine."""
    folder.mkdir(exist_ok=True)
    return {
        f"{HAPROXY}CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        f"{HAPROXY}SOCKET_PATH": str(folder / "admin.sock"),
        f"{HAPROXY}SERVER_STATE_BASE": str(folder),
        f"{HAPROXY}SERVER_STATE_FILE": str(folder / "state"),
        f"{HAPROXY}METRICS_SOCKET_PATH": str(folder / "m.sock"),
        f"{HAPROXY}METRICS_PORT": str(free_port()),
        f"{HAPROXY}STATS_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        # Nothing is under way when it ends.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        answer_commands(lambda **command: act(stack, **command))

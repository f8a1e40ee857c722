"""Ours with everything on: keys, checks, ids, capture, sealing, as the flights are configured.

The cluster, the replica and whatever stands before it are processes under this one. The ways in are
HAProxy, as the product does it; the replica's own port; the shipped edge, nginx with TLS, before
HAProxy; and Serve's proxy.
"""

import contextlib
import tempfile
from pathlib import Path

from app.config import load_config
from app.sections import ServingConfig
from app.serving.application import deploy
from app.session import session
from benchmarks.harness.contenders import answer_commands
from benchmarks.serving.edge import before
from benchmarks.serving.local import Address
from benchmarks.serving.plain import CONFIG
from benchmarks.serving.replicas import find_address

# More callers wait than a replica takes by default; none of them shall be told to come later.
MAX_ONGOING = 256


def act(stack: contextlib.ExitStack, workspace: str, way: str) -> Address:
    """Deploy the champion of a workspace; return where it is reached."""
    overrides = [
        f"workspace={workspace}",
        "serving.port=0",
        f"serving.max_ongoing_requests={MAX_ONGOING}",
        # The flights' clock is one for replays: it asks SQL at each request. They ship thrice as
        # often as others, for the demo to look at.
        "clock=wall",
        f"serving.ship_seconds={ServingConfig().ship_seconds}",
        "cluster.dashboard=false",
        f"cluster.ingress={'proxy' if way == 'proxy' else 'haproxy'}",
    ]
    config = load_config(CONFIG, overrides)
    stack.enter_context(session(config))
    found = find_address(config.name, deploy(config), way == "direct")
    if way != "edge":
        return found
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ms-edge-"))
    return before(stack, found, Path(folder) / "edge")


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        answer_commands(lambda **command: act(stack, **command))

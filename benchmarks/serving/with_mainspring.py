"""Ours with everything on: keys, checks, ids, capture, sealing, as the flights are configured.

The cluster, the replica and whatever stands before it are processes under this one. How requests
come in is said by the environment that this process was started with.
"""

import contextlib
from typing import Any

from app.config import load_config
from app.serving.application import deploy
from app.session import session
from benchmarks.harness.contenders import answer_commands
from benchmarks.serving.replicas import find_address
from benchmarks.serving.world import CONFIG

# More callers wait than a replica takes by default; none of them shall be told to come later.
MAX_ONGOING = 256


def act(stack: contextlib.ExitStack, workspace: str, direct: bool) -> dict[str, Any]:
    """Deploy the champion of a workspace; return where it is reached."""
    overrides = [
        f"workspace={workspace}",
        "serving.port=0",
        f"serving.max_ongoing_requests={MAX_ONGOING}",
        "clock=wall",
        "cluster.dashboard=false",
    ]
    config = load_config(CONFIG, overrides)
    stack.enter_context(session(config))
    return find_address(config.name, deploy(config), direct)


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        answer_commands(lambda **command: act(stack, **command))

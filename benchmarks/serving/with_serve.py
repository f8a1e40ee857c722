"""Ray Serve around the anchor's own application, behind its proxy or by direct ingress.

The cluster is of the size that ours has.
"""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve

from app.config import load_config
from app.session import session
from benchmarks.harness.contenders import answer_commands
from benchmarks.serving.local import HOST, free_port
from benchmarks.serving.plain import CONFIG, Model
from benchmarks.serving.replicas import find_address
from benchmarks.serving.with_fastapi import application

# As ours: nobody is told to come later.
MAX_ONGOING = 256
NAME = "peer"


def compose(bundle: str) -> serve.Application:
    """Wire the anchor's application: one replica, without an access log."""

    def build() -> FastAPI:
        return application(Model(Path(bundle)))

    class Scorer:
        """Nothing but the routes."""

    deployment = serve.deployment(
        name="scorer",
        max_ongoing_requests=MAX_ONGOING,
        ray_actor_options={"num_cpus": 0.2},
        logging_config={"enable_access_log": False},
    )(serve.ingress(build)(Scorer))
    return deployment.bind()


def act(stack: contextlib.ExitStack, bundle: str, direct: bool) -> dict[str, Any]:
    """Deploy a bundle; return where it is reached."""
    workspace = stack.enter_context(tempfile.TemporaryDirectory(prefix="mainspring-"))
    # Its own way in is said by the environment.
    size = ["cluster.dashboard=false", "cluster.ingress=proxy"]
    config = load_config(CONFIG, [f"workspace={workspace}", *size])
    stack.enter_context(session(config))
    port = free_port()
    serve.start(http_options={"host": HOST, "port": port})
    serve.run(compose(bundle), name=NAME, route_prefix="/")
    return find_address(NAME, f"http://{HOST}:{port}", direct)


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        answer_commands(lambda **command: act(stack, **command))

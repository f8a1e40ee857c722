"""Run the replica on Ray Serve: how many, how large, on which port.

The deployed class is plain; Ray is added where it is composed. Serve reads the builder's annotation
at run time, so annotations here must not be postponed.
"""

import logging
import socket
import time
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.context import _get_global_client
from starlette.types import ASGIApp

from app.config import Config, load_config
from app.contracts.targets import require_binary
from app.serving.api import build_api
from app.serving.replica import Replica

# Beyond its limit the replica answers 503 in JSON, so Serve must let more than that through.
QUEUE_FACTOR = 4
STOP_SECONDS = 10.0


class ApplicationArgs(BaseModel):
    """What a Serve configuration file says: a model's YAML file and overrides."""

    model_config = ConfigDict(extra="forbid")

    config: Path
    overrides: list[str] = Field(default_factory=list, alias="set")


class ReplicaHost:
    """Hosts one replica in a Serve process."""

    def __init__(self, config: Config) -> None:
        """Open the replica and let it run."""
        # On shared cores a second thread costs more than it gives for a few hundred rows.
        torch.set_num_threads(1)
        self._replica = Replica(config, wall=time.time, steady=time.monotonic)
        self._replica.start()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Give Serve the HTTP application; called once, after the constructor."""
        return build_api(self._replica)

    def check_health(self) -> None:
        """Raise when Serve should replace this process."""
        self._replica.check_health()

    def __del__(self) -> None:
        """Ship what is left; Serve calls this when it ends a replica in good order."""
        if hasattr(self, "_replica"):
            self._replica.stop()


def build(args: ApplicationArgs) -> serve.Application:
    """Build the application that a Serve configuration file names as its import path."""
    return compose(load_config(args.config, args.overrides))


def compose(config: Config) -> serve.Application:
    """Wire the application of one model. Raises ValueError for one that is not binary."""
    require_binary(config.contract, "serving")
    serving = config.serving
    hosted = serve.ingress()(ReplicaHost)
    deployment = serve.deployment(
        name="replica",
        num_replicas=serving.num_replicas,
        ray_actor_options={"num_cpus": serving.cpus_per_replica},
        max_ongoing_requests=QUEUE_FACTOR * serving.max_ongoing_requests,
        graceful_shutdown_timeout_s=STOP_SECONDS,
        graceful_shutdown_wait_loop_s=0.5,
        # A new replica answers before the old one stops.
        max_surge_percent=100,
        # Requests are in the prediction log; a line of text for each costs time and says less.
        logging_config={"enable_access_log": False},
    )(hosted)
    return deployment.bind(config)


def deploy(config: Config) -> str:
    """Start or update the endpoint on the cluster that this process has joined; return its URL.

    Returns when a replica takes requests, which is before a champion is resident: see /readyz.
    Where Serve runs already, its host and port stay as they are, whatever the configuration says.
    """
    serving = config.serving
    port = serving.port or _free_port(serving.host)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(http_options={"host": serving.host, "port": port})
    serve.run(compose(config), name=config.name, route_prefix="/")
    client = _get_global_client()
    assert client is not None, "serve.run has just connected"
    options = client.http_config
    host = "127.0.0.1" if options.host in ("0.0.0.0", "::") else options.host
    return f"http://{host}:{options.port}"


def withdraw(config: Config) -> None:
    """Take the endpoint down in good order: what was kept is shipped."""
    serve.delete(config.name)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port

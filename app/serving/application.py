"""Run the replica on Ray Serve: how many, how large, on which port.

The deployed class is plain; Ray is added where it is composed. Serve reads the builder's annotation
at run time, so annotations here must not be postponed.
"""

import gc
import logging
import socket
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from ray.serve.context import _get_global_client
from starlette.types import ASGIApp

from app.config import Config, load_config
from app.contracts.targets import require_binary
from app.sections import ScalingConfig, ServingConfig
from app.serving.api import build_api
from app.serving.process import settle
from app.serving.replica import Replica
from app.serving.scaling import replicas_wanted
from app.serving.straight import past_serve
from app.serving.whole import answer_whole

# Beyond its limit the replica answers 503 in JSON, so Serve must let more than that through.
QUEUE_FACTOR = 4
STOP_SECONDS = 10.0
# The 95th percentile of a replica's answers, in milliseconds.
LATENCY = "latency_ms"


class ApplicationArgs(BaseModel):
    """What a Serve configuration file says: a model's YAML file and overrides."""

    model_config = ConfigDict(extra="forbid")

    config: Path
    overrides: list[str] = Field(default_factory=list, alias="set")


class ReplicaHost:
    """Hosts one replica in a Serve process."""

    def __init__(self, config: Config) -> None:
        """Open the replica and let it run."""
        settle()
        answer_whole(past_serve)
        self._replica = Replica(config, wall=time.time, steady=time.monotonic)
        self._replica.start()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Give Serve the HTTP application; called once, after the constructor."""
        api = build_api(self._replica)
        # Modules are never garbage: to look through them again takes a quarter of a second, in
        # which nothing is answered.
        gc.collect()
        gc.freeze()
        return api

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell Serve's controller how long answers take here; it asks now and then."""
        replica = self._replica
        return {LATENCY: replica.latencies.percentile_ms(replica.steady())}

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
        **_scale(serving),
        ray_actor_options={"num_cpus": serving.cpus_per_replica},
        max_ongoing_requests=QUEUE_FACTOR * serving.max_ongoing_requests,
        graceful_shutdown_timeout_s=STOP_SECONDS,
        graceful_shutdown_wait_loop_s=0.5,
        # A new replica answers before the old one stops.
        max_surge_percent=100,
        # Requests are in the prediction log; a line of text for each costs time and says less. At
        # Serve's own level it would be written all the same, and then thrown away.
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )(hosted)
    return deployment.bind(config)


def _scale(serving: ServingConfig) -> dict[str, Any]:
    """Give a number of replicas, or how it follows the load."""
    scaling = serving.scaling
    if scaling is None:
        return {"num_replicas": serving.num_replicas}
    policy = AutoscalingPolicy(  # type: ignore[no-untyped-call]
        policy_function=ReplicaPolicy, policy_kwargs={"scaling": scaling.model_dump(mode="json")}
    )
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=scaling.min_replicas,
            max_replicas=scaling.max_replicas,
            upscale_delay_s=scaling.upscale_seconds,
            downscale_delay_s=scaling.downscale_seconds,
            metrics_interval_s=1.0,
            look_back_period_s=5.0,
            policy=policy,
        )
    }


class ReplicaPolicy:
    """What Serve's controller asks how many replicas there should be."""

    def __init__(self, scaling: dict[str, Any]) -> None:
        """Take the configuration as JSON."""
        self._scaling = ScalingConfig.model_validate(scaling)

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Say how many; Serve holds it within bounds and waits for the delays."""
        latencies = (context.aggregated_metrics or {}).get(LATENCY, {}).values()
        wanted = replicas_wanted(
            max(context.current_num_replicas, 1),
            context.total_num_requests,
            # A replica without an answer lately tells nothing.
            [latency for latency in latencies if latency > 0],
            self._scaling,
        )
        return wanted.num_replicas, {"why": wanted.why}


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

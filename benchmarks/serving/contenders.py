"""Who is compared: how each is started, and how it wants its rows."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from benchmarks.serving.bodies import Form, Kind
from benchmarks.serving.world import World
from tests.edge_world import NGINX, NGINX_AT

ANCHOR = "fastapi"
# Ours as it is meant to be called; the record tells of it where it tells of one only.
MAIN = "direct"
MODEL = "flights"
# More threads would wait for each other on shared cores. Ours sees to it itself.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
RAY = {"RAY_AUTH_MODE": "disabled"}
# Environments win over what the product sets where it starts a cluster. Without HAProxy replicas
# are called at their own ports.
NO_HAPROXY = {"RAY_SERVE_ENABLE_HA_PROXY": "0"}
DIRECT = {
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Nothing is under way when it ends.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    **NO_HAPROXY,
}


@dataclass(frozen=True)
class Contender:
    """One server."""

    module: str
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    is_ours: bool = False
    package: str | None = None
    """What it needs beyond this project, in an environment of its own."""
    needs_nginx: bool = False

    def command(self, world: World) -> dict[str, Any]:
        """Say what starts it."""
        if self.is_ours:
            return {"workspace": str(world.fresh_workspace()), **self.options}
        return {"bundle": str(world.bundle), **self.options}

    def form(self, world: World, kind: Kind = "row") -> Form:
        """Say how it wants one row, or many."""
        if self.is_ours:
            headers = {"x-api-key": world.key}
            return Form(f"/v1/{MODEL}/predict", headers, '{"rows":[', "]}", kind)
        if kind == "row":
            return Form("/predict", {})
        path = "/predict_many" if kind == "json" else "/predict_arrow"
        return Form(path, {}, "[", "]", kind)

    def lacks(self, python: str) -> str | None:
        """Name what it needs and is not there, for an interpreter of the peers."""
        if self.needs_nginx and NGINX is None:
            return f"nginx, on the path or as {NGINX_AT}"
        if self.package is None:
            return None
        command = [python, "-c", f"import {self.package}"]
        found = subprocess.run(command, capture_output=True, check=False).returncode == 0
        return None if found else f"{self.package}, see the extra bench and --peers-python"


def ours(way: str, environment: Mapping[str, str] = MappingProxyType({})) -> Contender:
    """Ours by one way in."""
    return Contender(
        "with_mainspring",
        {**RAY, **environment},
        {"way": way},
        is_ours=True,
        needs_nginx=way == "edge",
    )


CONTENDERS: dict[str, Contender] = {
    ANCHOR: Contender("with_fastapi", ONE_THREAD),
    "asgi": Contender("with_asgi", ONE_THREAD),
    "litserve": Contender("with_litserve", ONE_THREAD, package="litserve"),
    "bentoml": Contender("with_bentoml", ONE_THREAD, package="bentoml"),
    "serve-default": Contender("with_serve", {**RAY, **ONE_THREAD}, {"direct": False}),
    "serve-direct": Contender("with_serve", {**RAY, **ONE_THREAD, **DIRECT}, {"direct": True}),
    "direct": ours("direct", NO_HAPROXY),
    "haproxy": ours("haproxy"),
    "edge": ours("edge"),
    "proxy": ours("proxy"),
}

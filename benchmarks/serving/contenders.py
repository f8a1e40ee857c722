"""Who is compared: how each is started, and how it wants its rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.serving.bodies import Form
from benchmarks.serving.world import World

ANCHOR = "fastapi"
MODEL = "flights"
# One thread computes; more of them would wait for each other on shared cores. Ours sees to it
# itself.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
RAY = {"RAY_AUTH_MODE": "disabled"}
# Ours by way in: what its environment says. Set on purpose, whatever the product's defaults are.
PROXY = {"RAY_SERVE_ENABLE_DIRECT_INGRESS": "0", "RAY_SERVE_ENABLE_HA_PROXY": "0"}
DIRECT = {
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
}


@dataclass(frozen=True)
class Contender:
    """One server."""

    module: str
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    is_ours: bool = False
    is_foreign: bool = False
    """Needs packages that are no part of this project."""

    def command(self, world: World) -> dict[str, Any]:
        """Say what starts it."""
        if self.is_ours:
            return {"workspace": str(world.fresh_workspace()), **self.options}
        return {"bundle": str(world.bundle), **self.options}

    def form(self, world: World, many: bool) -> Form:
        """Say how it wants one row, or many."""
        if self.is_ours:
            headers = {"x-api-key": world.key}
            return Form(f"/v1/{MODEL}/predict", headers, '{"rows":[', "]}")
        return Form("/predict_many", {}, "[", "]") if many else Form("/predict", {})


CONTENDERS: dict[str, Contender] = {
    ANCHOR: Contender("with_fastapi", ONE_THREAD),
    "asgi": Contender("with_asgi", ONE_THREAD),
    "direct": Contender("with_mainspring", {**RAY, **DIRECT}, {"direct": True}, is_ours=True),
    "proxy": Contender("with_mainspring", {**RAY, **PROXY}, {"direct": False}, is_ours=True),
}

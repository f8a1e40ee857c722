"""Stand the shipped edge before a server: nginx with TLS, limits, time-outs and one retry."""

import contextlib
from pathlib import Path

from benchmarks.serving.local import HOST, Address
from tests.edge_world import run_edge


def before(stack: contextlib.ExitStack, target: Address, folder: Path) -> Address:
    """Run nginx before a server until the stack ends; return where it listens, and whom to trust.

    The folder must not be there yet.
    """
    edge = stack.enter_context(run_edge(folder, [target["address"][1]]))
    return {"address": [HOST, edge.port], "trust": str(edge.folder / "edge.crt")}

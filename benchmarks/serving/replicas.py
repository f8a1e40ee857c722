"""Find where the replica of a Serve application listens, on the cluster that this process joined.

Without a proxy only Serve's controller can say which ports were given out.
"""

import time
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.serve.context import _get_global_client

WAIT_SECONDS = 60.0


def find_address(application: str, url: str, direct: bool) -> dict[str, Any]:
    """Return the address to call: that of the URL, or the replica's own."""
    parts = urlsplit(url)
    if not direct:
        return {"address": [parts.hostname, parts.port]}
    client = _get_global_client()
    assert client is not None, "the application was deployed by this process"
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        groups = ray.get(client._controller.get_target_groups.remote(app_name=application))
        # A group of proxies names no deployment.
        targets = [
            target
            for group in groups
            for target in group.targets
            if group.protocol == "HTTP" and group.ingress_deployment_name
        ]
        if targets:
            # The host is the one asked for; the controller names the node instead.
            return {"address": [parts.hostname, targets[0].port]}
        time.sleep(0.2)
    raise TimeoutError(f"{application}: no replica listens after {WAIT_SECONDS} s; got {groups}")

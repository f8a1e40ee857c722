"""An endpoint with a cluster of its own, as the jobs start it, and what Serve counts meanwhile.

Run as `python -m tests.direct_process CONFIG KEY`; the last line is JSON.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson

from app.config import load_config
from app.serving.application import deploy
from app.session import session
from tests.serving_world import make_rows
from tests.waiting import wait_until

GIVEN = "5f0c9a3be7d64c0f8a3d1b2e4c5d6f70"


def main(file: str, key: str) -> None:
    config = load_config(Path(file))
    with session(config):
        url = deploy(config)
        wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        wait_until(lambda: under_way() == 0)
        body = orjson.dumps({"rows": make_rows(config.contract, 1)})

        def slowly() -> Iterator[bytes]:
            yield body[:9]
            wait_until(lambda: under_way() == 1)
            yield body[9:]

        heads = {
            "authorization": f"Bearer {key}",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "x-request-id": GIVEN,
        }
        slow = httpx.post(f"{url}/v1/flights/predict", content=slowly(), headers=heads, timeout=90)
        wait_until(lambda: under_way() == 0)
        told = {"status": slow.status_code, "given": slow.headers["x-request-id"]}
        told |= {"made": httpx.get(f"{url}/readyz").headers["x-request-id"]}
    sys.stdout.write(json.dumps(told) + "\n")


def under_way() -> int:
    """Ask Serve's replica how many requests are under way in it."""
    import ray

    named: list[dict[str, Any]] = ray.util.list_named_actors(all_namespaces=True)
    names = [one["name"] for one in named if one["name"].startswith("SERVE_REPLICA::flights#")]
    replicas = [ray.get_actor(name, namespace="serve") for name in names]
    return sum(ray.get([replica.get_num_ongoing_requests.remote() for replica in replicas]))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Requests that pass Serve's own way by are still counted, and named, by a real replica of it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.security.access import ROLES, Keyring
from tests.direct_process import GIVEN
from tests.replica_process import ROOT, prepare_flights

pytestmark = [pytest.mark.end_to_end]


def test_serve_counts_requests_under_way_that_it_does_not_handle_itself(tmp_path: Path) -> None:
    """By these it scales, and for these it waits before it ends a replica."""
    cluster = "cluster={num_cpus: 4, object_store_mb: 100, dashboard: false}"
    config, file = prepare_flights(tmp_path, "clock=wall", "serving.port=0", cluster)
    key = Keyring(config.workspace).create("direct", ROLES, datetime.now(UTC))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}

    done = subprocess.run(
        [sys.executable, "-m", "tests.direct_process", str(file), key.get_secret_value()],
        cwd=ROOT,
        env=inherited | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["status"], told["given"]) == (200, GIVEN)
    # Serve's own way makes ids with dashes.
    assert len(told["made"]) == 32
    assert "longer way" not in done.stderr

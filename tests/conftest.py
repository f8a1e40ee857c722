"""What tests share: a quiet Ray, one cluster, a workspace, a configuration of two weeks.

The environment is set here, before anything imports Ray, which reads most of it only once.
"""

import os
import random
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import yaml

from app.config import Config, load_config, show_config

ROOT = Path(__file__).resolve().parent.parent
# No test asserts a time: how long an example takes says something of the machine only.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")
RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_ENABLE_ARROW_BACKED_PANDAS_CONVERSION": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_worker_niceness": "0",
    "RAY_TQDM": "0",
    "RAY_DEDUP_LOGS": "0",
    "DO_NOT_TRACK": "1",
}
for name, value in RAY_ENVIRONMENT.items():
    os.environ.setdefault(name, value)
# A neighbour's cluster is never joined by accident.
os.environ.pop("RAY_ADDRESS", None)

# History from 1 to 11 January, production from 11 to 15 January; every dial is scaled down.
TWO_WEEKS = (
    "replay.history_until=2013-01-11",
    "replay.until=2013-01-15",
    "training.epochs=4",
    "training.batch_rows=128",
    "training.network={hidden: 32, num_layers: 1, embedding: 4}",
    "training.split={gate_window_days: 8, gate_every_days: 4, stop_days: 2, stop_spacing: 1}",
    "monitoring={window_days: 3, every_days: 1, maturity_days: 1, min_labels: 200}",
    "monitoring.num_bootstraps=20",
    "loop.diagnosis.min_labels=500",
    "loop.governor={persistence: 1, cooldown_days: 1, min_new_labels: 3000, max_retrainings: 2}",
    "loop.gate={min_rows: 500, min_days: 2, num_bootstraps: 50}",
    "loop.watch={days: 2, min_labels: 200}",
    "cluster={num_cpus: 4, object_store_mb: 200}",
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty workspace of a test's own."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def flights(workspace: Path) -> Config:
    """The shipped configuration, whole, in a workspace of its own."""
    return load_config(ROOT / "configs" / "flights.yaml", [f"workspace={workspace}"])


@pytest.fixture(scope="session")
def write_two_weeks() -> Callable[..., Path]:
    """A function that writes the flights configuration cut to two weeks, with more overrides."""

    def write(folder: Path, *overrides: str) -> Path:
        chosen = (f"workspace={folder / 'workspace'}", *TWO_WEEKS, *overrides)
        config = load_config(ROOT / "configs" / "flights.yaml", chosen)
        file = folder / "two_weeks.yaml"
        file.write_text(show_config(config))
        # A configuration that is shown is one that loads.
        assert load_config(file) == config, yaml.safe_dump(chosen)
        return file

    return write


@pytest.fixture
def free_port() -> int:
    """A port of the loopback interface that nothing listens on, and that stays free for a while."""
    return find_free_port()


@pytest.fixture(scope="module")
def free_port_of_module() -> int:
    """A port like free_port, for what serves all tests of a module."""
    return find_free_port()


def find_free_port() -> int:
    """Find a port. Ray's workers take 10002 to 19999, the kernel hands out 32768 and above."""
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("a hundred ports between 20000 and 32000 are all taken")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster for every test of the session that needs one.

    Its folder has a short path: Ray keeps Unix sockets there, whose paths may have 107 characters.
    """
    import ray

    folder = tempfile.mkdtemp(prefix="ms-ray-", dir="/tmp")
    ray.init(
        num_cpus=4,
        object_store_memory=200 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=folder,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

"""Join the cluster that RAY_ADDRESS names, or start one and own it. The one place where Ray begins.

A cluster started here runs as a child process on free ports, asks for a token, and ends with its
owner. Knows Ray; knows nothing of models.
"""

import contextlib
import ctypes
import functools
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.config import Config
from app.ingress import serve_environment
from app.priority import give_way, worker_variables
from app.sections import ClusterConfig

PROJECT_ROOT = Path(__file__).resolve().parent.parent

# Read when Ray is imported or when its processes start; an operator's own setting wins.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # The default, 15, lets any other process starve a replica.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_DATA_ENABLE_ARROW_BACKED_PANDAS_CONVERSION": "0",
    "RAY_TQDM": "0",
    # Half a minute and five seconds are too short on a busy machine: what is late is killed, and
    # starts anew, later still.
    "RAY_raylet_start_wait_time_s": "170",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    # So long does Ray Data keep a share of the cluster for a driver that was killed; it renews its
    # claim every ten seconds, and its own default, three minutes, holds up whoever resumes.
    "RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S": "30",
    # Read by torch when it is imported: spinning threads on a shared core train ten times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "DO_NOT_TRACK": "1",
}
PR_SET_PDEATHSIG = 1
# How Serve ends in good order: its controller ends itself while it is asked to.
SERVE_ENDED = "Task ServeController.graceful_shutdown failed"
START_SECONDS = 180


@dataclass(frozen=True)
class Cluster:
    """The cluster that this process is connected to."""

    address: str
    dashboard_url: str | None
    started: bool


class ClusterError(ValueError):
    """The cluster could not be started or joined; the message says what to look at."""


@contextlib.contextmanager
def session(config: Config, *, background: bool = False) -> Iterator[Cluster]:
    """Connect to Ray for the length of a `with` block.

    Joins RAY_ADDRESS when it is set. Otherwise starts a head node as a child process and stops it
    on the way out, also when this process is killed. Background work gives way to replicas, as
    `cluster.background` says: this process from here on, and its workers.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield _describe(started=False)
        return
    how = config.cluster.background if background else "equal"
    give_way(how)
    with contextlib.ExitStack() as stack:
        address = os.environ.get("RAY_ADDRESS")
        started = not address
        if not address:
            address = stack.enter_context(_head_node(config))
        _connect(address, config, worker_variables(how))
        stack.callback(ray.shutdown)
        if started:
            stack.callback(_end_serving)
        yield _describe(started)


def _end_serving() -> None:
    """End Serve, if it runs, in good order: its processes do not end with their node."""
    if "ray.serve" not in sys.modules:
        return
    from ray import serve
    from ray.serve.context import _get_global_client

    if _get_global_client(raise_if_no_controller_running=False) is not None:
        serve.shutdown()  # type: ignore[no-untyped-call]


def _describe(started: bool) -> Cluster:
    """Say where this process is connected."""
    import ray

    context = ray.get_runtime_context()
    url = ray._private.worker._global_node.webui_url if ray._private.worker._global_node else None
    return Cluster(context.gcs_address, f"http://{url}" if url else None, started)


def _connect(address: str, config: Config, variables: Mapping[str, str]) -> None:
    """Join a running cluster as a driver whose workers find this code."""
    import ray
    from ray import _raylet

    _tell_on_stderr()
    # The authentication mode is cached at import; Ray refreshes it the same way.
    _raylet.Config.initialize("")  # type: ignore[attr-defined]
    # A submitted job has the code already.
    code = {} if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else _code_variables()
    environment = {**code, **variables}
    try:
        ray.init(
            address=address,
            namespace=namespace(config),
            log_to_driver=False,
            configure_logging=True,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": environment} if environment else None,
        )
    except ConnectionError as error:
        raise ClusterError(f"RAY_ADDRESS {address}: no cluster answers there; {error}") from error


def _tell_on_stderr() -> None:
    """Let Ray tell what goes wrong in a cluster on stderr: stdout is for a job's record.

    It prints there whatever log_to_driver says, and may do so before the record.
    """
    from ray._private import worker

    told = worker.print_to_stdstream
    if hasattr(told, "__wrapped__"):
        return

    @functools.wraps(told)
    def tell(data: dict[str, object], ignore_prefix: bool) -> None:
        if SERVE_ENDED not in str(data.get("lines")):
            told({**data, "is_err": True}, ignore_prefix)

    worker.print_to_stdstream = tell


def namespace(config: Config) -> str:
    """Name the Ray namespace of one model's actors."""
    return f"mainspring-{config.name}"


def _code_variables() -> dict[str, str]:
    """Let workers import this code from where the driver has it."""
    return {"PYTHONPATH": str(PROJECT_ROOT)}


@contextlib.contextmanager
def _head_node(config: Config) -> Iterator[str]:
    """Run `ray start --head --block` as a child and yield its address."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"] == "token":
        os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(_token_file(config.workspace)))
    folder = Path(tempfile.mkdtemp(prefix="mainspring-"))
    port, dashboard_port, agent_port, client_port = _free_ports(4)
    log = folder / "head.log"
    serving = serve_environment(config.cluster.ingress, folder, _free_ports)
    with log.open("wb") as output:
        process = subprocess.Popen(
            _start_command(config.cluster, folder, port, dashboard_port, agent_port, client_port),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**serving, **os.environ, "PYTHONPATH": _python_path(), "PATH": _path()},
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    try:
        _await_start(process, log)
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _start_command(cluster: ClusterConfig, folder: Path, *ports: int) -> list[str]:
    port, dashboard_port, agent_port, client_port = ports
    return [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
        "--node-ip-address=127.0.0.1",
        f"--port={port}",
        f"--ray-client-server-port={client_port}",
        f"--include-dashboard={'true' if cluster.dashboard else 'false'}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard_port}",
        f"--dashboard-agent-listen-port={agent_port}",
        f"--num-cpus={cluster.num_cpus}",
        f"--object-store-memory={cluster.object_store_mb * 2**20}",
        f"--temp-dir={folder}",
        "--disable-usage-stats",
    ]  # fmt: skip


def _token_file(workspace: Path) -> Path:
    """Create this workspace's cluster token once, readable by its owner only."""
    file = workspace / "keys" / "ray_token"
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as output:
            output.write(secrets.token_hex(32))
    return file


def _python_path() -> str:
    """Put this code first on the import path of every process of the cluster."""
    rest = os.environ.get("PYTHONPATH", "")
    return f"{PROJECT_ROOT}{os.pathsep}{rest}" if rest else str(PROJECT_ROOT)


def _path() -> str:
    """Let `python` in a submitted entrypoint be the interpreter that runs Ray."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def _end_with_parent() -> None:
    """Ask the kernel to end this child when its parent dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_ports(count: int) -> list[int]:
    """Find distinct free ports on the loopback interface."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _await_start(process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the head node says it has started."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            told = log.read_text()[-2000:]
            raise ClusterError(f"Ray did not start (exit {process.returncode}): {told}")
        if b"Ray runtime started" in log.read_bytes():
            return
        time.sleep(0.1)
    raise ClusterError(f"Ray did not start within {START_SECONDS} s: {log.read_text()[-2000:]}")

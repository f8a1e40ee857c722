"""The shipped edge as it runs: nginx with cluster/nginx/mainspring.conf, on ports of a test's own.

Only what an installation sets is changed: ports, paths, limits. Each change must find its line.
"""

import contextlib
import datetime
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SHIPPED = Path(__file__).resolve().parent.parent / "cluster" / "nginx" / "mainspring.conf"
UPSTREAM = "    server 127.0.0.1:8000 max_fails=0;\n"
# Where it is, if not on the path.
NGINX_AT = "MAINSPRING_NGINX"
# A Debian user's path does not name it.
USUAL = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
NGINX = os.environ.get(NGINX_AT) or shutil.which("nginx", path=USUAL)

needs_nginx = pytest.mark.skipif(
    NGINX is None, reason="needs nginx: apt-get install nginx-light installs it"
)


@dataclass(frozen=True)
class Edge:
    """A running edge."""

    url: str
    plain_url: str
    port: int
    trust: ssl.SSLContext
    folder: Path

    def client(self, **headers: str) -> httpx.Client:
        """Open a client that trusts the edge's certificate and nothing else."""
        return httpx.Client(base_url=self.url, verify=self.trust, timeout=60, headers=headers)

    def errors(self) -> str:
        """Say what nginx had to say."""
        return (self.folder / "error.log").read_text()


def free_ports(number: int) -> list[int]:
    """Find ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def write_certificate(folder: Path) -> None:
    """Write a certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "edge.crt").write_bytes(certificate.public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "edge.key").write_bytes(private)


def write_configuration(
    folder: Path, upstreams: Sequence[int], ports: tuple[int, int], changes: Mapping[str, str]
) -> Path:
    """Write the shipped file as an installation would, within a main file of nginx.

    `changes` are further lines to replace.
    """
    text = SHIPPED.read_text()
    secure, plain = ports
    servers = "".join(f"    server 127.0.0.1:{port} max_fails=0;\n" for port in upstreams)
    for old, new in {
        2 * UPSTREAM: servers,
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ssl;": f"listen 127.0.0.1:{secure} ssl;",
        "/etc/nginx/tls/mainspring.crt": str(folder / "edge.crt"),
        "/etc/nginx/tls/mainspring.key": str(folder / "edge.key"),
        "/var/log/nginx/mainspring.log": str(folder / "access.log"),
        **changes,
    }.items():
        assert old in text, f"{SHIPPED} has no longer: {old}"
        text = text.replace(old, new)
    (folder / "mainspring.conf").write_text(text)
    user = "user root;\n" if os.geteuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    main = folder / "nginx.conf"
    main.write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/pid;\n"
        f"error_log {folder}/error.log info;\nevents {{ worker_connections 1024; }}\n"
        f"http {{\n{temporary}    include {folder}/mainspring.conf;\n}}\n"
    )
    return main


def check_configuration(main: Path) -> subprocess.CompletedProcess[str]:
    """Let nginx judge a configuration."""
    assert NGINX is not None
    command = [NGINX, "-t", "-c", str(main), "-e", str(main.parent / "error.log")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def run_edge(
    folder: Path, upstreams: Sequence[int], changes: Mapping[str, str] | None = None
) -> Iterator[Edge]:
    """Run the edge before servers at these ports; one port is listed twice, as HAProxy's is."""
    assert NGINX is not None
    folder.mkdir(parents=True)
    write_certificate(folder)
    ports = [*upstreams] if len(upstreams) > 1 else 2 * [*upstreams]
    secure, plain = free_ports(2)
    main = write_configuration(folder, ports, (secure, plain), changes or {})
    process = subprocess.Popen([NGINX, "-c", str(main), "-e", str(folder / "error.log")])
    try:
        _await_port(secure, process, folder)
        trust = ssl.create_default_context(cafile=str(folder / "edge.crt"))
        url = f"https://127.0.0.1:{secure}"
        yield Edge(url, f"http://127.0.0.1:{plain}", secure, trust, folder)
    finally:
        process.terminate()
        process.wait(30)


def _await_port(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, (folder / "error.log").read_text()
        assert time.monotonic() < deadline, "nginx did not listen in time"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)

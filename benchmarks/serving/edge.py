"""Stand nginx before a server: limits, time-outs, one retry, connections that are kept."""

import contextlib
import os
import shutil
from pathlib import Path

from benchmarks.serving.local import HOST, Address, free_port, run_child

# Where it is, if not on the path.
NGINX = "MAINSPRING_NGINX"
CONFIGURATION = """
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 16m;
    client_body_buffer_size 64k;
    client_header_timeout 10s;
    client_body_timeout 10s;
    keepalive_requests 1000000;
    upstream replicas {{
        server {target} max_fails=1 fail_timeout=1s;
        keepalive 64;
        keepalive_requests 1000000;
    }}
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://replicas;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_connect_timeout 1s;
            proxy_next_upstream error timeout non_idempotent;
            proxy_next_upstream_tries 2;
        }}
    }}
}}
"""


def find_nginx() -> str | None:
    """Find nginx where the environment says, or on the path."""
    return os.environ.get(NGINX) or shutil.which("nginx")


def before(stack: contextlib.ExitStack, target: Address, folder: Path) -> Address:
    """Run nginx before a server until the stack ends, and return where it listens."""
    program = find_nginx()
    assert program is not None, "whoever asks for the edge has looked for nginx"
    folder.mkdir(exist_ok=True)
    port = free_port()
    host, target_port = target["address"]
    file = folder / "nginx.conf"
    file.write_text(
        CONFIGURATION.format(folder=folder, target=f"{host}:{target_port}", host=HOST, port=port)
    )
    return run_child(stack, [program, "-c", str(file), "-e", "stderr"], port, {})

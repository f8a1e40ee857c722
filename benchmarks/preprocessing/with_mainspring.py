"""Ours: validation and the encoder through the shell on a Ray cluster of its own."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from app.data.encoding import encode
from app.session import session
from benchmarks.harness.contenders import answer_commands
from benchmarks.preprocessing.data import config


def main() -> None:
    """Start a cluster, answer commands, and end it."""
    workspace = Path(tempfile.mkdtemp(prefix="ms-bench-"))
    settings = config(workspace)

    def act(rows: str, into: str) -> None:
        shutil.rmtree(into, ignore_errors=True)
        encode(settings, rows, Path(into), num_workers=settings.cluster.num_cpus)

    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, workspace, ignore_errors=True)
        stack.enter_context(session(settings))
        answer_commands(act)


if __name__ == "__main__":
    main()

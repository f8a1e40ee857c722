"""LitServe around the same row, model and answer: one API server, one worker.

Its tuned queue is on, which it recommends for small models, and its access log off.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import litserve

from benchmarks.harness.contenders import answer_commands
from benchmarks.serving.local import HOST, Address, free_port, run_child
from benchmarks.serving.plain import Answer, Model, Row

BUNDLE = "MAINSPRING_BENCHMARK_BUNDLE"


class Scorer(litserve.LitAPI):
    """The steps of one request, in a process of their own."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.model = Model(Path(os.environ[BUNDLE]))

    def decode_request(self, request: Row) -> Any:
        """Hand the row on: it was checked by its annotation."""
        return request

    def predict(self, row: Any) -> Answer:
        """Answer for one row."""
        return Answer(flight_id=row.flight_id, probability=self.model.predict(vars(row)))

    def encode_response(self, output: Answer) -> Answer:
        """Hand the answer on: the server writes it."""
        return output


def act(stack: contextlib.ExitStack, bundle: str) -> Address:
    """Serve a bundle from processes under this one."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving.with_litserve", str(port)]
    return run_child(stack, command, port, {BUNDLE: bundle})


def main(port: int) -> None:
    """Serve until ended."""
    server = litserve.LitServer(
        Scorer(), accelerator="cpu", workers_per_device=1, fast_queue=True, timeout=False
    )
    server.run(
        host=HOST,
        port=port,
        num_api_servers=1,
        log_level="error",
        access_log=False,
        generate_client_file=False,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(int(sys.argv[1]))
    else:
        with contextlib.ExitStack() as stack:
            answer_commands(lambda **command: act(stack, **command))

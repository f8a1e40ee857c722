"""BentoML around the same row, model and answer: one worker, neither access log nor metrics."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import bentoml

from benchmarks.harness.contenders import answer_commands
from benchmarks.serving.local import HOST, Address, free_port, run_child
from benchmarks.serving.plain import Answer, Model, Row

BUNDLE = "MAINSPRING_BENCHMARK_BUNDLE"
QUIET: dict[str, Any] = {
    "workers": 1,
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
}


@bentoml.service(**QUIET)
class Scorer:
    """One route, one row."""

    def __init__(self) -> None:
        """Load the model."""
        self.model = Model(Path(os.environ[BUNDLE]))

    @bentoml.api
    async def predict(self, row: Row, /) -> Answer:
        """Answer for one row, which is the whole body."""
        return Answer(flight_id=row.flight_id, probability=self.model.predict(vars(row)))


def act(stack: contextlib.ExitStack, bundle: str) -> Address:
    """Serve a bundle from processes under this one."""
    port = free_port()
    served = ["-m", "bentoml", "serve", "benchmarks.serving.with_bentoml:Scorer"]
    command = [sys.executable, *served, "--host", HOST, "--port", str(port)]
    return run_child(stack, command, port, {BUNDLE: bundle, "BENTOML_DO_NOT_TRACK": "True"})


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        answer_commands(lambda **command: act(stack, **command))

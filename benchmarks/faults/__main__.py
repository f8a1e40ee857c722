"""Load beyond capacity, load that grows, load beside a training job; on this machine, as shipped.

    python -m benchmarks.faults overload
    python -m benchmarks.faults ramp
    python -m benchmarks.faults training

Each prints its figures as a table and, as the last line, one JSON record. Times mean something on
a machine that does nothing else; counts do everywhere, and tests/chaos holds the product to them.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.faults import beside
from benchmarks.faults import overload as beyond
from benchmarks.faults import ramp as growing

app = typer.Typer(add_completion=False, help=__doc__)
Hidden = Annotated[int, typer.Option(min=8, help="Width of the network: what an answer costs.")]
Rounds = Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are told.")]
Seconds = Annotated[float, typer.Option(min=1, help="How long each load lasts.")]


@contextmanager
def working_folder() -> Iterator[Path]:
    """Give a folder for one run; sockets lie under it, whose paths may have a hundred letters."""
    folder = Path(tempfile.mkdtemp(prefix="ms-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tell(measure: Callable[[Path], Mapping[str, Any]]) -> None:
    """Measure and print: figures for people, then one record."""
    with working_folder() as folder:
        record = measure(folder)
    for name, value in record.items():
        if name != "rounds":
            sys.stdout.write(f"{name:24} {value}\n")
    sys.stdout.write(json.dumps(record) + "\n")


@app.command()
def overload(
    hidden: Hidden = beyond.Dials.hidden,
    rounds: Rounds = beyond.Dials.rounds,
    seconds: Seconds = beyond.Dials.seconds,
    max_wait_ms: Annotated[
        float, typer.Option(min=1, help="serving.max_wait_ms.")
    ] = beyond.Dials.max_wait_ms,
) -> None:
    """Offer ten times what can be answered."""
    tell(lambda folder: beyond.measure(folder, beyond.Dials(hidden, max_wait_ms, seconds, rounds)))


@app.command()
def ramp(
    hidden: Hidden = growing.Dials.hidden,
    objective_ms: Annotated[
        float, typer.Option(min=1, help="serving.scaling.latency_objective_ms.")
    ] = growing.Dials.objective_ms,
    ongoing: Annotated[
        float, typer.Option(help="serving.scaling.ongoing_per_replica.")
    ] = growing.Dials.ongoing_per_replica,
) -> None:
    """Let the load grow from 10 to 3,000 requests a minute in a minute."""
    tell(lambda folder: growing.measure(folder, growing.Dials(hidden, objective_ms, ongoing)))


@app.command()
def training(
    hidden: Hidden = beside.Dials.hidden,
    rate: Annotated[float, typer.Option(help="Requests a second.")] = beside.Dials.rate,
    rows: Annotated[int, typer.Option(min=1, help="Of a request.")] = beside.Dials.rows,
    rounds: Rounds = beside.Dials.rounds,
    seconds: Seconds = beside.Dials.seconds,
    background: Annotated[
        str, typer.Option(help="cluster.background of the training: nice, idle or equal.")
    ] = beside.Dials.background,
) -> None:
    """Serve at a constant rate beside a training job."""
    dials = beside.Dials(hidden, rate, seconds, rounds, background, rows)
    tell(lambda folder: beside.measure(folder, dials))


if __name__ == "__main__":
    app()

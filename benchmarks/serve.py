"""Serving: ours with everything on, beside servers of the same network with nothing on.

Each contender is started alone, warmed, called by 1, 16 and 64 callers in a closed loop, and ended,
in interleaved rounds; a round's figures are divided by those of FastAPI and pydantic under one
uvicorn worker in the same round, and the medians of the ratios are told. Every answer's status and
probability is checked. CPU a request is the figure to trust on a shared machine: the replica's own
time, and that of all processes over what those beside it take when nobody calls. The last line is
one JSON record.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.serving.contenders import CONTENDERS
from benchmarks.serving.profiling import profile
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import Load, one_round, running
from benchmarks.serving.world import World, make_world

PROFILED_CALLERS = 16


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 3,
    seconds: Annotated[float, typer.Option(help="How long callers call.")] = 5.0,
    callers: Annotated[str, typer.Option(help="Numbers of callers, parted by commas.")] = "1,16,64",
    only: Annotated[str, typer.Option(help="Contenders, parted by commas.")] = ",".join(CONTENDERS),
    network: Annotated[str, typer.Option(help="small, or the flights' own.")] = "small",
    profiled: Annotated[
        str, typer.Option("--profile", help="Profile a replica of ours at 16 callers instead.")
    ] = "",
) -> None:
    """Run the contenders and print their figures, the ratios, and one JSON record."""
    folder = Path(tempfile.mkdtemp(prefix="mainspring-serve-"))
    names = [name for name in CONTENDERS if name in only.split(",")]
    loads = [Load(int(number), seconds) for number in callers.split(",")]
    results = Results()
    try:
        world = make_world(folder, network)
        if profiled:
            show_profile(profiled, world, Load(PROFILED_CALLERS, seconds))
            return
        for number in range(rounds):
            # Another one begins each round, so that none always follows the same neighbour.
            turn = number % len(names)
            run_round(number, names[turn:] + names[:turn], world, loads, results)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    results.show()
    print(json.dumps({"rounds": rounds, "seconds": seconds, "network": network} | results.record()))


def show_profile(name: str, world: World, load: Load) -> None:
    """Print where the replica of a contender spends its time."""
    with running(CONTENDERS[name], world) as up:
        up.call(load)
        for line in profile(up, load):
            print(line)


def run_round(
    number: int, names: list[str], world: World, loads: list[Load], results: Results
) -> None:
    """Run each contender once."""
    for name in names:
        for load, each in zip(loads, one_round(CONTENDERS[name], world, loads), strict=True):
            results.add(number, name, load.callers, each)
            say(
                f"round {number + 1}: {name} {load.callers} callers: {each.requests_per_s:,.0f}/s, "
                f"p99 {each.p99_ms:.1f} ms, {each.cpu_us:,.0f} CPU µs"
            )


def say(progress: str) -> None:
    """Tell a person how far it is."""
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)

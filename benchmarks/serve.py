"""Serving: ours with everything on, beside servers of the same network with nothing on.

Each contender is started with no other beside it but FastAPI and pydantic under one uvicorn worker,
warmed, and ended, in interleaved rounds. 1, 16 and 64 callers in a closed loop call FastAPI and, at
once after it, the contender, whose figures are divided by FastAPI's; the medians of the ratios over
rounds are told. Every answer's status and probability is checked. CPU a request is the figure to
trust on a shared machine: the replica's own time, and that of all processes over what those beside
it take when nobody calls. Then bodies of 1,000 rows. The last line is one JSON record.

LitServe and BentoML are not this project's: `pip install -e .[bench]` into an environment of their
own, and name its interpreter.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.serving.bodies import Kind
from benchmarks.serving.contenders import ANCHOR, CONTENDERS, MAIN
from benchmarks.serving.profiling import profile
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import Load, one_round, running
from benchmarks.serving.world import World, make_world

PROFILED_CALLERS = 16
BULK_ROWS = 1000
BULK_CALLERS = 2
KINDS: tuple[Kind, ...] = ("arrow", "json")


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 3,
    slices: Annotated[int, typer.Option(min=1, help="Measurements of a load a start.")] = 2,
    seconds: Annotated[float, typer.Option(help="How long callers call.")] = 5.0,
    callers: Annotated[str, typer.Option(help="Numbers of callers, parted by commas.")] = "1,16,64",
    only: Annotated[str, typer.Option(help="Contenders, parted by commas.")] = ",".join(CONTENDERS),
    network: Annotated[str, typer.Option(help="small, or the flights' own.")] = "small",
    bulk: Annotated[str, typer.Option(help="Bodies of 1,000 rows, too: as these.")] = "arrow,json",
    peers_python: Annotated[
        str, typer.Option(help="An interpreter that has LitServe and BentoML.")
    ] = sys.executable,
    profiled: Annotated[
        str, typer.Option("--profile", help="Only profile a replica of this one of ours.")
    ] = "",
) -> None:
    """Run the contenders and print their figures, the ratios, and one JSON record."""
    # Sockets lie under it, whose paths may have a hundred letters.
    folder = Path(tempfile.mkdtemp(prefix="ms-"))
    try:
        world = make_world(folder, network)
        if profiled:
            show_profile(profiled, world, Load(PROFILED_CALLERS, seconds))
            return
        names, left_out = available(only.split(","), peers_python)
        if not names:
            raise typer.BadParameter(f"nobody is left to compare with {ANCHOR}", param_hint="only")
        loads = [Load(int(number), seconds) for number in callers.split(",")]
        results = run_rounds((rounds, slices), names, world, loads, peers_python)
        results.show()
        record = {
            "rounds": rounds,
            "slices": slices,
            "seconds": seconds,
            "network": network,
            "left_out": left_out,
        }
        record |= results.record()
        if MAIN in names:
            record |= bulk_record((rounds, slices), world, seconds, bulk.split(","))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(record))


def available(asked: Sequence[str], peers_python: str) -> tuple[list[str], dict[str, str]]:
    """Give the contenders that can run, and why others cannot."""
    wanted = {n: each for n, each in CONTENDERS.items() if n in asked and n != ANCHOR}
    lacking = {name: each.lacks(peers_python) for name, each in wanted.items()}
    left_out = {name: f"needs {what}" for name, what in lacking.items() if what is not None}
    for name, why in left_out.items():
        say(f"{name} is left out: it {why}")
    return [name for name in wanted if name not in left_out], left_out


def run_rounds(
    times: tuple[int, int], names: list[str], world: World, loads: Sequence[Load], peers_python: str
) -> Results:
    """Run every contender once a round, beside the anchor; `times` are rounds and slices."""
    results, (rounds, slices) = Results(), times
    for number in range(rounds):
        # Another one begins each round, so that none always follows the same neighbour.
        turn = number % len(names) if names else 0
        for name in names[turn:] + names[:turn]:
            contender = CONTENDERS[name]
            python = peers_python if contender.package else sys.executable
            anchor = CONTENDERS[ANCHOR]
            found = one_round(contender, anchor, world, loads, python, slices)
            for piece, load, mine, theirs in found:
                results.add(number * slices + piece, name, load.callers, mine, theirs)
                say(
                    f"round {number + 1}: {name}, {load.callers} callers: "
                    f"{mine.requests_per_s:,.0f}/s, p99 {mine.p99_ms:.1f} ms, "
                    f"{mine.cpu_us:,.0f} CPU µs; {ANCHOR} {theirs.requests_per_s:,.0f}/s, "
                    f"{theirs.p99_ms:.1f} ms, {theirs.cpu_us:,.0f} CPU µs"
                )
    return results


def bulk_record(
    times: tuple[int, int], world: World, seconds: float, kinds: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Measure bodies of many rows of each kind; print and return them."""
    record: dict[str, dict[str, Any]] = {f"bulk_vs_{ANCHOR}": {}, f"bulk_cpu_vs_{ANCHOR}": {}}
    for kind in (each for each in KINDS if each in kinds):
        load = Load(BULK_CALLERS, seconds, BULK_ROWS, kind)
        results = run_rounds(times, [MAIN], world, [load], sys.executable)
        print(f"{BULK_ROWS:,} rows a body, as {kind}")
        results.show_bulk()
        for name, figure in (("bulk", "rows_per_s"), ("bulk_cpu", "cpu_us")):
            record[f"{name}_vs_{ANCHOR}"][kind] = results.ratio(figure, MAIN, ANCHOR, BULK_CALLERS)
        record[f"bulk_{kind}"] = results.medians()
    return record


def show_profile(name: str, world: World, load: Load) -> None:
    """Print where the replica of a contender spends its time."""
    with running(CONTENDERS[name], world) as up:
        up.call(load)
        for line in profile(up, load):
            print(line)


def say(progress: str) -> None:
    """Tell a person how far it is."""
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)

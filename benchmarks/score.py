"""Batch scoring, Parquet to Parquet, beside a plain loop of pyarrow and torch in two processes.

5 million rows of 30 columns are scored by both, in interleaved rounds, each in a fresh process that
did a small run before; the medians of wall and CPU seconds, and of the highest resident memory of
the whole tree of processes (Ray's own among them), are compared. Both say the same of every row, or
the benchmark fails. More rounds are cold: from the start of the first process to the last row, with
imports, the cluster, and everything else in it. In these, too, memory is measured once more with a
page that processes share counted once: a dozen processes of Ray share what two copies of it do. The
last line is one JSON record.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness.contenders import Cost, ask, medians, run_round, started
from benchmarks.harness.costs import proportional_mb, watched_memory
from benchmarks.scoring.agreement import check
from benchmarks.scoring.data import write_rows
from benchmarks.scoring.world import make_workspace

OURS, PEER = "mainspring", "two processes"
# Arguments of the contenders: module and environment.
CONTENDERS: dict[str, tuple[str, dict[str, str]]] = {
    OURS: ("with_mainspring", {"RAY_AUTH_MODE": "disabled"}),
    PEER: ("with_plain", {}),
}
MILLION = 1_000_000
PSS_SECONDS = 0.5
# So many files, and pieces, that both processes have some of them.
WARMING_ROWS, WARMING_FILE = 40_000, 10_000


def main(
    rows: Annotated[int, typer.Option(help="Rows that both score.")] = 5 * MILLION,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 5,
    cold: Annotated[int, typer.Option(min=0, help="Rounds that include every start.")] = 2,
    cores: Annotated[int, typer.Option(min=1, help="Cores that a contender may use.")] = 2,
    keep: Annotated[bool, typer.Option(help="Leave the rows for another time.")] = False,
) -> None:
    """Run both and print their costs, the ratios, and one JSON record."""
    folder = Path(tempfile.gettempdir()) / "mainspring-benchmarks" / "score"
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    say(f"writing {rows:,} rows and a model, unless they are there: {folder}")
    write_rows(folder / f"rows-{rows}", rows)
    write_rows(folder / f"rows-{WARMING_ROWS}", WARMING_ROWS, WARMING_FILE)
    make_workspace(folder / "workspace", folder / "bundle")
    costs: dict[str, list[Cost]] = {name: [] for name in CONTENDERS}
    apart = 0.0
    for number in range(rounds):
        # Another one begins each round, so that none always follows the same neighbour.
        names = list(CONTENDERS)
        for name in names[number % 2 :] + names[: number % 2]:
            costs[name].append(one_round(name, rows, folder, allowed))
            cost = costs[name][-1]
            say(f"round {number + 1}: {name} {cost.wall_s:.2f} s, {cost.cpu_s:.2f} CPU s, "
                f"{cost.peak_mb:,.0f} MB")  # fmt: skip
        if number == 0:
            apart = check(folder / OURS, folder / PEER, rows)
            say(f"both say the same of every row, {apart:.1e} apart at most")
    colds = {name: [cold_round(name, rows, folder, allowed) for _ in range(cold)]
             for name in CONTENDERS}  # fmt: skip
    record: dict[str, object] = {"rows": rows, "rounds": rounds, "cores": len(allowed)}
    record |= {"furthest_apart": apart}
    record |= compared({name: medians(each) for name, each in costs.items()}, rows)
    if cold:
        record |= told(colds)
    for name in CONTENDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(record))


def work_of(name: str, rows: int, folder: Path) -> dict[str, object]:
    """Say what a contender is to do."""
    into, bundle = str(folder / name), str(folder / "bundle")
    return {"rows": str(folder / f"rows-{rows}"), "into": into, "bundle": bundle}


def one_round(name: str, rows: int, folder: Path, cores: list[int]) -> Cost:
    """Run one contender once, warmed."""
    module, environment = CONTENDERS[name]
    warming, work = (work_of(name, number, folder) for number in (WARMING_ROWS, rows))
    return run_round(f"benchmarks.scoring.{module}", warming, work, cores, environment)


def cold_round(name: str, rows: int, folder: Path, cores: list[int]) -> tuple[float, float]:
    """Run one contender once; give the seconds from its start on, and its shared-once megabytes."""
    module, environment = CONTENDERS[name]
    began = time.perf_counter()
    with (
        started(f"benchmarks.scoring.{module}", environment, cores) as process,
        watched_memory(process.pid, proportional_mb, PSS_SECONDS) as peak,
    ):
        ask(process, work_of(name, rows, folder))
        wall = time.perf_counter() - began
    return wall, peak.peak_mb


def told(colds: dict[str, list[tuple[float, float]]]) -> dict[str, object]:
    """Say what the cold rounds came to, and give the ratios."""
    ours, peer = (np.median(colds[name], axis=0) for name in (OURS, PEER))
    say(f"with every start: {OURS} {ours[0]:.1f} s, {PEER} {peer[0]:.1f} s")
    say(f"shared pages once: {OURS} {ours[1]:,.0f} MB, {PEER} {peer[1]:,.0f} MB")
    return {
        "cold_s": {OURS: round(ours[0], 2), PEER: round(peer[0], 2)},
        "cold_vs_two_processes": round(peer[0] / ours[0], 3),
        "pss_mb": {OURS: round(ours[1]), PEER: round(peer[1])},
        "pss_vs_two_processes": round(ours[1] / peer[1], 3),
    }


def compared(costs: dict[str, Cost], rows: int) -> dict[str, object]:
    """Print the table of medians, and return the ratios to the plain loop."""
    print(f"{'':14} wall s  CPU s  CPU µs/row    rows/s  peak MB  idle MB  start s")
    for name, cost in costs.items():
        print(
            f"{name:14} {cost.wall_s:6.2f} {cost.cpu_s:6.2f} {cost.cpu_s / rows * 1e6:11.2f}"
            f"  {rows / cost.wall_s:8,.0f} {cost.peak_mb:8,.0f} {cost.idle_mb:8,.0f}"
            f" {cost.start_wall_s:8.1f}"
        )
    ours, peer = costs[OURS], costs[PEER]
    return {
        "contenders": {
            name: {key: round(value, 3) for key, value in asdict(cost).items()}
            for name, cost in costs.items()
        },
        "vs_two_processes": round(peer.wall_s / ours.wall_s, 3),
        "rss_vs_two_processes": round(ours.peak_mb / peer.peak_mb, 3),
        "cpu_vs_two_processes": round(ours.cpu_s / peer.cpu_s, 3),
    }


def say(progress: str) -> None:
    """Tell a person how far it is."""
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)

"""Preprocessing, Parquet to Parquet: validate, impute, scale, encode; beside polars and others.

2 million rows of 20 columns are fitted on and encoded by every contender, in interleaved rounds,
each round in a fresh process that did a small run before; the medians of wall and CPU seconds are
compared. CPU is that of the whole tree of processes, Ray's own among them, from the start of the
timed run to its end. The contenders' files must agree. Then ours alone on ten times the rows, for
memory, and one row through the encoder. The last line is one JSON record.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness.contenders import Cost, medians, run_round
from benchmarks.preprocessing.agreement import check
from benchmarks.preprocessing.data import write_rows
from benchmarks.preprocessing.one_row import measure

OURS, ANCHOR = "mainspring", "polars"
# Arguments of the contenders: module and environment.
CONTENDERS: dict[str, tuple[str, dict[str, str]]] = {
    OURS: ("with_mainspring", {"RAY_AUTH_MODE": "disabled"}),
    ANCHOR: ("with_polars", {}),
    "polars-memory": ("with_polars", {"POLARS_BENCH_IN_MEMORY": "1"}),
    "pyarrow": ("with_pyarrow", {}),
    "scikit-learn": ("with_sklearn", {}),
}
WARMING_ROWS = 20_000
# So many pieces that every worker has some of them.
WARMING_GROUP = 1_000
LARGER = 10
MILLION = 1_000_000


def main(
    rows: Annotated[int, typer.Option(help="Rows that every contender encodes.")] = 2 * MILLION,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 3,
    only: Annotated[str, typer.Option(help="Contenders, parted by commas.")] = ",".join(
        name for name in CONTENDERS
    ),
    large: Annotated[bool, typer.Option(help="Ours on ten times the rows, for memory.")] = True,
    cores: Annotated[int, typer.Option(min=1, help="Cores that a contender may use.")] = 2,
) -> None:
    """Run the contenders and print their costs, the ratios, and one JSON record."""
    folder = Path(tempfile.gettempdir()) / "mainspring-benchmarks" / "preprocess"
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    names = [name for name in CONTENDERS if name in only.split(",")]
    say(f"writing {rows:,} rows, unless they are there: {folder}")
    num_bad = write_rows(folder / f"rows-{rows}", rows)
    write_rows(folder / f"rows-{WARMING_ROWS}", WARMING_ROWS, row_group=WARMING_GROUP)
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for number in range(rounds):
        # Another one begins each round, so that none always follows the same neighbour.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            costs[name].append(one_round(name, rows, folder, allowed))
            cost = costs[name][-1]
            say(f"round {number + 1}: {name} {cost.wall_s:.2f} s, {cost.cpu_s:.2f} CPU s")
        if number == 0:
            agree(names, folder, num_bad)
    record: dict[str, object] = {"rows": rows, "rounds": rounds, "cores": len(allowed)}
    record |= compared({name: medians(each) for name, each in costs.items()}, rows)
    if large and OURS in names:
        record |= larger(rows, folder, allowed, medians(costs[OURS]))
    encoder_us, floor_us = measure()
    say(f"one row of 30 columns: {encoder_us:.1f} µs, floor {floor_us:.1f} µs")
    record["one_row_vs_floor"] = round(encoder_us / floor_us, 2)
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)
    print(json.dumps(record))


def one_round(name: str, rows: int, folder: Path, cores: list[int]) -> Cost:
    """Run one contender once."""
    module, environment = CONTENDERS[name]
    threads = {"POLARS_MAX_THREADS": str(len(cores)), "OMP_NUM_THREADS": str(len(cores))}
    into = str(folder / name)
    return run_round(
        f"benchmarks.preprocessing.{module}",
        {"rows": str(folder / f"rows-{WARMING_ROWS}"), "into": into},
        {"rows": str(folder / f"rows-{rows}"), "into": into},
        cores,
        {**threads, **environment},
    )


def agree(names: list[str], folder: Path, num_bad: int) -> None:
    """Hold every contender's files against the first one's."""
    for other in names[1:]:
        furthest = check(folder / names[0], folder / other, num_bad)
        say(f"{names[0]} and {other}: same rows, same codes, places {furthest:.1e} bins apart")


def compared(costs: dict[str, Cost], rows: int) -> dict[str, object]:
    """Print the table of medians, and return the ratios to polars."""
    print(f"{'':18} wall s  CPU s  CPU µs/row  rows/s     peak MB  start s")
    for name, cost in costs.items():
        print(
            f"{name:18} {cost.wall_s:6.2f} {cost.cpu_s:6.2f} {cost.cpu_s / rows * 1e6:11.2f}"
            f"  {rows / cost.wall_s:9,.0f} {cost.peak_mb:8,.0f} {cost.start_wall_s:8.1f}"
        )
    record: dict[str, object] = {
        "contenders": {
            name: {key: round(value, 3) for key, value in vars(cost).items()}
            for name, cost in costs.items()
        }
    }
    if OURS in costs and ANCHOR in costs:
        ours, anchor = costs[OURS], costs[ANCHOR]
        record["cpu_vs_polars"] = round(ours.cpu_s / anchor.cpu_s, 3)
        record["throughput_vs_polars"] = round(anchor.wall_s / ours.wall_s, 3)
    return record


def larger(rows: int, folder: Path, cores: list[int], smaller: Cost) -> dict[str, object]:
    """Run ours on ten times the rows and compare the highest memory of the whole tree."""
    say(f"writing {rows * LARGER:,} rows, unless they are there")
    write_rows(folder / f"rows-{rows * LARGER}", rows * LARGER, seed=1)
    cost = one_round(OURS, rows * LARGER, folder, cores)
    say(
        f"{rows * LARGER:,} rows: {cost.wall_s:.1f} s, {cost.cpu_s:.1f} CPU s, "
        f"peak {cost.peak_mb:,.0f} MB ({cost.peak_mb - cost.idle_mb:+,.0f} over idle; "
        f"{rows:,} rows: {smaller.peak_mb:,.0f} MB, {smaller.peak_mb - smaller.idle_mb:+,.0f})"
    )
    return {
        "rss_20m_vs_2m": round(cost.peak_mb / smaller.peak_mb, 3),
        "larger": {key: round(value, 3) for key, value in vars(cost).items()},
    }


def say(progress: str) -> None:
    """Tell a person how far it is."""
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)

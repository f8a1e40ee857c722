"""Training: our loop beside a plain one by hand, a DataLoader and Ray Train's iter_torch_batches.

All train the same network by the same optimizer on the same batches, one thread on one core, in
interleaved rounds; what is compared is the median of the rounds' ratios, so that a busy neighbour
meets all of them. In a Ray Train worker, where the product trains, and in this process. Then two
workers on two cores against one of them, by the clock and by CPU time, and beside it two that share
nothing, which is all that these cores can give; and the seconds to a worker's first step. Start-up
is told apart. The last line is one JSON record.
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.config import Config
from app.sections import ClusterConfig
from app.session import session
from benchmarks.preprocessing.data import config as preprocessing_config

BATCH_ROWS = 1024
NUM_NUMBERS = 27


def main(
    rows: Annotated[int, typer.Option(min=BATCH_ROWS, help="Rows of a round.")] = 32 * BATCH_ROWS,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 9,
    batch: Annotated[int, typer.Option(min=16, help="Rows of a step.")] = BATCH_ROWS,
    pair: Annotated[bool, typer.Option(help="Two workers against one, too.")] = True,
) -> None:
    """Run the contenders and print their speeds, the ratios, and one JSON record."""
    # Read by torch when it is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    record: dict[str, Any] = {"rows": rows, "rounds": rounds, "batch_rows": batch}
    folder = Path(tempfile.mkdtemp(prefix="mainspring-train-"))
    try:
        record |= here(rows, rounds, batch)
        record |= on_workers(folder, rows, rounds, batch, pair)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(record))


def here(rows: int, rounds: int, batch: int) -> dict[str, Any]:
    """Run the contenders in this process, on one core."""
    began = time.perf_counter()
    import torch

    from benchmarks.training import contenders, world

    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(every)[:1])
    torch.set_num_threads(1)
    config = world.training(batch, rounds + 1)
    data = world.make_rows(rows, NUM_NUMBERS, 1)
    networks = [world.network_of(config, NUM_NUMBERS) for _ in range(3)]
    tensors = contenders.tensors_of(data, networks[1])
    start = time.perf_counter() - began
    laps = contenders.interleave(
        {
            "ours": contenders.Ours(networks[0], data, config),
            "plain": contenders.Plain(networks[1], tensors, config),
            "dataloader": contenders.Loader(networks[2], tensors, config),
        },
        rounds,
    )
    os.sched_setaffinity(0, every)
    show("in this process", contenders.medians(laps))
    wall, cpu = contenders.speed(laps, "ours", "plain")
    return {
        "vs_plain_in_process": wall,
        "vs_plain_in_process_cpu": cpu,
        "in_process": contenders.medians(laps),
        "in_process_start_s": round(start, 2),
    }


def on_workers(folder: Path, rows: int, rounds: int, batch: int, pair: bool) -> dict[str, Any]:
    """Run the contenders in a Ray Train worker, and two workers against one."""
    from benchmarks.training import contenders, workers, world

    began = time.perf_counter()
    with session(cluster(folder)):
        session_s = time.perf_counter() - began
        config = world.training(batch, 1)
        found = workers.run(config, 1, (rows, NUM_NUMBERS), rounds, folder)
        laps = {
            name: [contenders.Lap(**lap) for lap in each] for name, each in found["laps"].items()
        }
        show("in a Ray Train worker", contenders.medians(laps))
        record: dict[str, Any] = {}
        for other in ("plain", "dataloader", "iter_torch"):
            name = "iter_torch_batches" if other == "iter_torch" else other
            record[f"vs_{name}"], record[f"vs_{name}_cpu"] = contenders.speed(laps, "ours", other)
        record["in_worker"] = contenders.medians(laps)
        if pair:
            both = workers.run(config, 2, (rows, NUM_NUMBERS), rounds, folder)
            ratio, by_cpu, most = (statistics.median(both[k]) for k in ("wall", "cpu", "apart"))
            say(
                f"two workers on two cores: {ratio:.2f} times one of them, {by_cpu:.2f} by CPU; "
                f"two that share nothing: {most:.2f}"
            )
            record["two_workers_vs_one"] = round(ratio, 3)
            record["two_workers_vs_one_cpu"] = round(by_cpu, 3)
            record["two_apart_vs_one"] = round(most, 3)
            for kind, name in (("wall", "two_workers_rounds"), ("apart", "two_apart_rounds")):
                record[name] = [round(each, 3) for each in both[kind]]
    say(
        f"session {session_s:.1f} s, then {found['start_s']:.1f} s to a started worker, then "
        f"{found['first_batch_s']:.2f} s to its first step"
    )
    starts = {"session_s": round(session_s, 2), "worker_start_s": found["start_s"]}
    return {**record, **starts, "first_batch_s": round(found["first_batch_s"], 3)}


def cluster(folder: Path) -> Config:
    """Ask for a cluster of this machine's size; the contract is not used."""
    size = ClusterConfig(num_cpus=4, object_store_mb=300, dashboard=False)
    return preprocessing_config(folder).model_copy(update={"cluster": size})


def show(where: str, speeds: dict[str, dict[str, float]]) -> None:
    """Print the medians."""
    print(f"{where:24} rows/s  rows/CPU s")
    for name, each in speeds.items():
        print(f"  {name:20} {each['rows_per_s']:8,.0f}  {each['rows_per_cpu_s']:10,.0f}")


def say(progress: str) -> None:
    """Tell a person how far it is."""
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)

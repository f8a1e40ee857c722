"""Training on one GPU: our loop, rows resident or streamed, beside a loop written by hand.

The hand-written loop has all rows on the card and the same network, optimizer, batches, precision
and compilation; ours has them there too, or streams them from the host's memory. Each pair runs in
interleaved rounds, and the card's busy share is sampled during ours. Last, one process trains over
NCCL. The last line is one JSON record. Several GPUs are not measured here.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from app.sections import TrainingConfig
from app.training.precision import forward_of
from app.training.rows import Rows
from benchmarks.training.card import nccl_of_one, watched
from benchmarks.training.contenders import Ours, Plain, interleave, medians, speed, tensors_of
from benchmarks.training.world import SIZES, make_rows, network_of

MILLION = 1_000_000
WAYS = [
    {"precision": precision, "compile": compiled, "resident": resident}
    for precision in ("float32", "bfloat16")
    for compiled in (False, True)
    for resident in ("device", "host")
]


def main(
    rows: Annotated[int, typer.Option(min=1, help="Rows of a round.")] = 2 * MILLION,
    columns: Annotated[int, typer.Option(min=len(SIZES) + 2, help="Columns of a row.")] = 50,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 3,
    batch: Annotated[int, typer.Option(min=16, help="Rows of a step.")] = 16_384,
) -> None:
    """Measure each way of training and print the ratios, and one JSON record."""
    if not torch.cuda.is_available():
        typer.secho(
            "error: torch sees no GPU here; run this on a machine with one, with a build of torch "
            "for it, or benchmarks/train.py on this one",
            fg=typer.colors.RED,
            err=True,
        )
        raise typer.Exit(2)
    num_numbers = columns - len(SIZES)
    data = make_rows(rows, num_numbers, 1)
    ways = {}
    for way in WAYS:
        name = "-".join((way["precision"], "compiled" if way["compile"] else "eager"))
        name = f"{name}-{'resident' if way['resident'] == 'device' else 'streamed'}"
        ways[name] = measured(data, num_numbers, rounds, batch, way)
        print(f"{name:32} {ways[name]}")
    record: dict[str, Any] = {
        "card": torch.cuda.get_device_name(),
        "rows": rows,
        "columns": columns,
        "batch_rows": batch,
        "rounds": rounds,
        "vs_hand_written": {name: found["vs_hand_written"] for name, found in ways.items()},
        "ways": ways,
        "nccl_rows_per_s": over_nccl(data, num_numbers, batch),
    }
    print(json.dumps(record))


def settings(batch: int, rounds: int, **way: object) -> TrainingConfig:
    """Make the settings of a way, as configs/flights.yaml has them otherwise."""
    from benchmarks.training.world import training

    return training(batch, rounds + 1, use_gpu=True, **way)


def measured(
    data: Rows, num_numbers: int, rounds: int, batch: int, way: dict[str, Any]
) -> dict[str, Any]:
    """Train ours and the hand-written loop in turn, then ours alone under the sampler."""
    config, device = settings(batch, rounds, **way), torch.device("cuda")
    torch.compiler.reset()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    ours = Ours(network_of(config, num_numbers).to(device), data, config)
    ours_mb = torch.cuda.memory_allocated() / 2**20
    network = network_of(config, num_numbers).to(device)
    by_hand = Plain(
        network, tensors_of(data, network, device), config, forward_of(network, config, device)
    )
    laps = interleave({"ours": ours, "by_hand": by_hand}, rounds)
    with watched() as busy:
        ours.train(rounds + 2)
        torch.cuda.synchronize()
    return {
        "vs_hand_written": speed(laps, "ours", "by_hand")[0],
        "rows_per_s": {name: each["rows_per_s"] for name, each in medians(laps).items()},
        "busy_share": busy.share,
        "ours_resident_mb": round(ours_mb),
    }


def over_nccl(data: Rows, num_numbers: int, batch: int) -> float:
    """Train one process over NCCL; give its rows a second."""
    config = settings(batch, 1)
    network = network_of(config, num_numbers).to("cuda")
    with nccl_of_one(network) as module:
        laps = interleave({"ours": Ours(network, data, config, module)}, 1)
    return medians(laps)["ours"]["rows_per_s"]


if __name__ == "__main__":
    typer.run(main)

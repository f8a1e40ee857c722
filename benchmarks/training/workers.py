"""The contenders inside Ray Train workers, where the product trains.

One worker first runs the product's own loop, for the time to its first step, then the contenders in
turn. Two workers, each on a core of its own, alternate between sharing a pass and the first of them
doing all of it alone.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray
import ray.data
import ray.train
import torch
from ray.train import DataConfig, RunConfig, ScalingConfig
from ray.train.collective import barrier
from ray.train.torch import TorchTrainer

from app.model.tasks import BinaryTask
from app.sections import TrainingConfig
from app.training.loop import RayPeers, read_blocks, shared_network, train_loop
from app.training.room import worker_environment
from app.training.rows import Block, shard, whole
from benchmarks.training.contenders import (
    Contender,
    Loader,
    Ours,
    Plain,
    Tensors,
    interleave,
    tensors_of,
)
from benchmarks.training.world import (
    BLOCK_ROWS,
    STOP_ROWS,
    block_of,
    make_rows,
    network_of,
    shape_of,
)

RESULT = "result.json"


class IterTorchBatches(Plain):
    """The plain loop over Ray Data's own batches, in the order in which they lie: no shuffle."""

    def batches(self, number: int) -> Iterable[Tensors]:
        """Let Ray Data give the batches."""
        source = ray.train.get_dataset_shard("plain")
        for batch in source.iter_torch_batches(
            batch_size=self._config.batch_rows, prefetch_batches=2
        ):
            yield batch["numbers"], batch["categories"], batch["label"].float()


def one_worker(settings: dict[str, Any]) -> None:
    """Run the product's loop once, then the contenders in turn."""
    entered = time.time()
    config = _begin(settings, settings["cores"][:1])
    train_loop(settings["product"])
    rows, _ = shard(read_blocks("train"), 0, 1, whole(read_blocks("stop")))
    names = {"ours": Ours, "plain": Plain, "dataloader": Loader, "iter_torch": IterTorchBatches}
    contenders: dict[str, Contender] = {}
    for name, kind in names.items():
        network = network_of(config, settings["num_numbers"])
        source: Any = rows if kind is Ours else tensors_of(rows, network)
        contenders[name] = kind(network, source, config)
    laps = interleave(contenders, settings["rounds"])
    document = {name: [asdict(lap) for lap in each] for name, each in laps.items()}
    _write(settings, {"laps": document, "entered": entered})


def two_workers(settings: dict[str, Any]) -> None:
    """Let both share a pass, then each do half of it by itself, then the first do all of it alone.

    Halves that share nothing are what two cores can give, with what else runs on them.
    """
    peers = RayPeers()
    core = settings["cores"][peers.rank % len(settings["cores"])]
    config = _begin(settings, [core])
    stop = whole(read_blocks("stop"))
    rows, _ = shard(read_blocks("train"), peers.rank, peers.size, stop)
    network = network_of(config, settings["num_numbers"])
    pair = Ours(network, rows, config, shared_network(network, config), peers)
    half = config.model_copy(update={"batch_rows": config.batch_rows // peers.size})
    apart = Ours(network_of(half, settings["num_numbers"]), rows, half)
    every, _ = shard(read_blocks("train"), 0, 1, stop)
    alone = Ours(network_of(config, settings["num_numbers"]), every, config)
    laps: list[dict[str, float]] = []
    for number in range(settings["rounds"] + 1):
        together, halves = _lap(pair, number), _lap(apart, number)
        if peers.rank == 0:
            single = _lap(alone, number, shared=False)
            laps.append(
                {
                    "wall": single.wall / together.wall,
                    "cpu": single.cpu / together.cpu,
                    "apart": single.wall / halves.wall,
                }
            )
    if peers.rank == 0:
        _write(settings, {kind: [lap[kind] for lap in laps[1:]] for kind in laps[0]})
    barrier()


class _Pass(NamedTuple):
    """Seconds that a pass over all rows took: by the clock, and of this worker's CPU."""

    wall: float
    cpu: float


def _lap(contender: Contender, number: int, *, shared: bool = True) -> _Pass:
    """Run a pass; where both work on it, it begins together and its clock is the slower one's."""
    if shared:
        barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    contender.train(number + 1)
    cpu = time.process_time() - cpu
    if shared:
        barrier()
    return _Pass(time.perf_counter() - wall, cpu)


def _begin(settings: dict[str, Any], cores: list[int]) -> TrainingConfig:
    """Keep to the cores, a thread each."""
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(1)
    return TrainingConfig.model_validate_json(settings["product"]["training"])


def _write(settings: dict[str, Any], document: dict[str, Any]) -> None:
    (Path(settings["folder"]) / RESULT).write_text(json.dumps(document))


def run(
    config: TrainingConfig, num_workers: int, size: tuple[int, int], rounds: int, folder: Path
) -> dict[str, Any]:
    """Run one or two workers over so many rows of so many numbers; give what they found.

    Beside that, the seconds until the workers began and until all was done. Needs a Ray session.
    """
    rows, num_numbers = size
    # Ray Train takes a checkpoint that lies where it would have put it.
    run_folder = folder / f"workers-{num_workers}"
    run_folder.mkdir()
    train, stop = _encoded(rows, num_numbers, 1), _encoded(STOP_ROWS, num_numbers, 2)
    began = time.time()
    result = TorchTrainer(
        one_worker if num_workers == 1 else two_workers,
        train_loop_config={
            "product": _product_settings(config, num_numbers, run_folder),
            "rounds": rounds,
            "num_numbers": num_numbers,
            "folder": str(folder),
            "cores": sorted(os.sched_getaffinity(0)),
        },
        datasets={
            "train": train,
            "stop": stop,
            "plain": train.drop_columns(["place"]).materialize(),
        },
        dataset_config=DataConfig(datasets_to_split=[]),
        scaling_config=ScalingConfig(
            num_workers=num_workers, resources_per_worker={"CPU": 1 / num_workers}
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # Typed as the version before.
            name=run_folder.name,
            storage_path=str(folder),
            worker_runtime_env={"env_vars": worker_environment(config)},
        ),
    ).fit()
    found: dict[str, Any] = json.loads((folder / RESULT).read_text())
    if "entered" in found:
        found["start_s"] = round(found.pop("entered") - began, 2)
        found["first_batch_s"] = (result.metrics or {})["first_batch_s"]
    return {**found, "fit_s": round(time.time() - began, 2)}


def _product_settings(config: TrainingConfig, num_numbers: int, folder: Path) -> dict[str, Any]:
    """Give what the product's own loop is run with."""
    return {
        "training": config.model_dump_json(),
        "shape": shape_of(num_numbers).model_dump_json(),
        "task": BinaryTask().model_dump(),
        "fingerprint": "benchmark",
        "folder": str(folder),
        # Its peers do not give way either.
        "background": "equal",
    }


def _encoded(rows: int, num_numbers: int, seed: int) -> ray.data.Dataset:
    """Make rows on the cluster, in blocks as the product has them."""
    firsts = [{"first": first} for first in range(0, rows, BLOCK_ROWS)]
    dataset: ray.data.Dataset = (
        ray.data.from_items(firsts, override_num_blocks=len(firsts))
        .map_batches(
            partial(_block, rows=rows, num_numbers=num_numbers, seed=seed),
            batch_format="numpy",
            batch_size=None,
            num_cpus=0.5,
        )
        .materialize()
    )
    return dataset


def _block(batch: Block, rows: int, num_numbers: int, seed: int) -> Block:
    first = int(batch["first"][0])
    return block_of(make_rows(min(BLOCK_ROWS, rows - first), num_numbers, seed + first), first)

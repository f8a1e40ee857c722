"""What one training worker does: its shard into tensors once, then epochs with a checkpoint each.

Knows Ray Train's worker side and the core in fitting.py; knows nothing of tables, bundles or the
registry. Checkpoints are safetensors and JSON with a manifest; an incomplete or altered one is not
resumed from.
"""

import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.train.torch import prepare_model

from app.contracts.circumstances import Surroundings
from app.data.features import Encoded, InputShape
from app.model.manifest import ArtifactAltered, read_folder, write_folder
from app.model.networks import build_network
from app.model.tasks import task_from
from app.sections import TrainingConfig
from app.training.boosting import Growth, grow
from app.training.circumstances import sum_in_one_order, surroundings_here
from app.training.fitting import fit
from app.training.rows import Rows
from app.training.state import FitState
from app.training.workers import add_workers, read_workers, write_workers

logger = logging.getLogger(__name__)


class RayPeers:
    """The other workers of this run, over torch's process group."""

    def __init__(self) -> None:
        """Ask Ray who this worker is."""
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.size: int = context.get_world_size()

    def mean(self, value: float) -> float:
        """Give the same mean to every worker."""
        return self._reduce(value, torch.distributed.ReduceOp.SUM) / self.size

    def smallest(self, value: int) -> int:
        """Give the same minimum to every worker."""
        return int(self._reduce(float(value), torch.distributed.ReduceOp.MIN))

    def gather(self, text: str) -> list[str]:
        """Give every worker the texts of all, in order of rank."""
        if self.size == 1:
            return [text]
        content = text.encode()
        device = ray.train.torch.get_device()
        # Bytes of one length, and no object: torch would pickle that.
        longest = -self.smallest(-len(content))
        mine = torch.zeros(longest, dtype=torch.uint8)
        mine[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        all_of_them = [torch.empty_like(mine, device=device) for _ in range(self.size)]
        torch.distributed.all_gather(all_of_them, mine.to(device))
        return [bytes(each.cpu().numpy()).rstrip(b"\0").decode() for each in all_of_them]

    def _reduce(self, value: float, how: Any) -> float:
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=ray.train.torch.get_device())
        torch.distributed.all_reduce(tensor, op=how)
        return float(tensor.item())


def train_loop(settings: dict[str, Any]) -> None:
    """Run one worker.

    Settings: `training` and `shape` as JSON, the `task` as its fields, `fingerprint` of data and
    settings.
    """
    config = TrainingConfig.model_validate_json(settings["training"])
    shape = InputShape.model_validate_json(settings["shape"])
    torch.set_num_threads(min(config.threads_per_worker, os.cpu_count() or 1))
    peers = RayPeers()
    if config.use_gpu and config.deterministic:
        sum_in_one_order()
    train, stop = _shard("train", peers.rank, peers.size), _shard("stop")
    resume, seen = _last_state(settings["fingerprint"])
    workers = add_workers(seen, _told(config, peers))
    reporter = _Reporter(settings["fingerprint"], peers.rank, workers)
    if resume is not None and resume.is_finished(config):
        # Died between the last epoch and the end of the run: there is nothing left but to say so.
        reporter.report(resume, 0.0)
        return
    task = task_from(settings["task"])
    if config.model == "trees":
        threads = torch.get_num_threads()
        growth = Growth(task, train, stop, config, threads, peers.rank, peers.size)
        grow(growth, resume=resume, on_epoch=reporter.after_epoch)
        return
    torch.manual_seed(config.seed)
    network = build_network(config.network, shape, task).to(ray.train.torch.get_device())
    fit(
        network,
        train,
        stop,
        config,
        resume=resume,
        on_epoch=reporter.after_epoch,
        module=prepare_model(network) if peers.size > 1 else network,
        peers=peers,
    )


def _told(config: TrainingConfig, peers: RayPeers) -> list[str]:
    """Let every worker say what it runs in."""
    device = str(ray.train.torch.get_device()) if config.use_gpu else "cpu"
    here = surroundings_here(rank=peers.rank, device=device).model_dump_json()
    # XGBoost's workers have a communicator of their own, for histograms only.
    return [here] if config.model == "trees" else peers.gather(here)


class _Reporter:
    """Report each epoch to Ray Train, with a checkpoint from rank 0."""

    def __init__(self, fingerprint: str, rank: int, workers: tuple[Surroundings, ...]) -> None:
        self._fingerprint, self._rank, self._workers = fingerprint, rank, workers
        self._since = time.perf_counter()
        self._seconds, self._num_rows = 0.0, 0

    def after_epoch(self, state: FitState) -> None:
        now = time.perf_counter()
        self._seconds += now - self._since
        self._num_rows += state.latest.num_rows
        self.report(state, self._num_rows / self._seconds)
        self._since = time.perf_counter()

    def report(self, state: FitState, rows_per_second: float) -> None:
        epoch = {"stage": state.stage, **state.latest.model_dump(exclude_none=True)}
        metrics = {**epoch, "rows_per_second": rows_per_second}
        if self._rank:
            ray.train.report(metrics, checkpoint=None)
            return
        with tempfile.TemporaryDirectory() as folder:
            files = {**state.to_files(self._fingerprint), **write_workers(self._workers)}
            write_folder(Path(folder), files)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _last_state(fingerprint: str) -> tuple[FitState | None, tuple[Surroundings, ...]]:
    """Read the latest checkpoint of this run and who worked on it; None to start anew."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None, ()
    with checkpoint.as_directory() as folder:
        try:
            files = read_folder(Path(folder))
        except ArtifactAltered as error:
            # The run is deterministic: starting over costs time and changes nothing.
            logger.warning("checkpoint not used, training starts over: %s", error)
            return None, ()
    return FitState.from_files(files, fingerprint), read_workers(files)


def _shard(name: str, rank: int = 0, size: int = 1) -> Rows:
    """Bring every `size`-th row from `rank` on into memory once, in the snapshot's order.

    Rows are dealt by their place, so that each worker has the same ones in every run, whatever way
    blocks came, and as many as the others, spread over all days. To rank, lists are dealt whole.
    """
    parts: list[dict[str, Any]] = []
    for batch in ray.train.get_dataset_shard(name).iter_batches(
        batch_size=None, batch_format="numpy"
    ):
        mine = batch["list" if "list" in batch else "place"] % size == rank
        parts.append(batch if size == 1 else {key: value[mine] for key, value in batch.items()})
    columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    order = np.argsort(columns["place"])
    encoded = Encoded(columns["numbers"][order], columns["categories"][order])
    groups = columns["list"][order] if "list" in columns else None
    return Rows(encoded, columns["label"][order], groups)

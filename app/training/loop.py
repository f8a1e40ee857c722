"""What one training worker does: its shard into tensors once, then epochs with a checkpoint each.

Knows Ray Train's worker side and the core in fitting.py; knows nothing of tables, bundles or the
registry. Checkpoints are safetensors and JSON with a manifest; one that is not whole is not resumed
from, but the one before.
"""

import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray.data
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import prepare_model

from app.data.features import Encoded, InputShape
from app.model.networks import build_network
from app.model.tasks import task_from
from app.sections import TrainingConfig
from app.training.boosting import Growth, grow
from app.training.checkpoints import CheckpointFailed, Checkpoints, Kept, read_checkpoints
from app.training.circumstances import sum_in_one_order, surroundings_here
from app.training.divergence import TrainingDiverged
from app.training.fitting import fit
from app.training.progress import ProgressWriter, Step
from app.training.rows import Rows
from app.training.state import FitState
from app.training.workers import add_workers, read_workers, write_workers

logger = logging.getLogger(__name__)
T = TypeVar("T")


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

    def from_first(self, value: T) -> T:
        """Give the first worker's value to every worker: without torch's group, for trees too."""
        if self.size == 1:
            return value
        given: T = broadcast_from_rank_zero(value)
        return given

    def _reduce(self, value: float, how: Any) -> float:
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=ray.train.torch.get_device())
        torch.distributed.all_reduce(tensor, op=how)
        return float(tensor.item())


def train_loop(settings: dict[str, Any]) -> dict[str, str] | None:
    """Run one worker; return why it will not go better when it is tried again, if that is so.

    That is the kind of error and what it tells, for `raise_hopeless`.

    Settings: `training` and `shape` as JSON, the `task` as its fields, `fingerprint` of data and
    settings, the `folder` of the run for the record of its progress.
    """
    config = TrainingConfig.model_validate_json(settings["training"])
    torch.set_num_threads(min(config.threads_per_worker, os.cpu_count() or 1))
    if config.use_gpu and config.deterministic:
        sum_in_one_order()
    peers, attempt = RayPeers(), uuid.uuid4().hex
    folder, fingerprint = Path(settings["folder"]), settings["fingerprint"]
    kept = _resume(folder, fingerprint, peers)
    resume = kept.state if kept else None
    workers = add_workers(read_workers(kept.files if kept else {}), _told(config, peers))
    with Checkpoints(folder, fingerprint, attempt, write_workers(workers)) as checkpoints:
        writer = ProgressWriter(folder, config, resume or FitState(), time.perf_counter, attempt)
        reporter = _Reporter(peers, writer, checkpoints)
        try:
            # Where it died between the last epoch and the end, there is nothing left to train.
            finished = resume if resume is not None and resume.is_finished(config) else None
            reporter.end(finished or _train(settings, config, peers, resume, reporter))
        except (TrainingDiverged, CheckpointFailed) as error:
            # Raised, it would be tried again: the run is deterministic, and a disk stays full.
            logger.error("%s", error)
            return {"kind": type(error).__name__, "told": str(error)}
    return None


def _train(
    settings: dict[str, Any],
    config: TrainingConfig,
    peers: RayPeers,
    resume: FitState | None,
    reporter: "_Reporter",
) -> FitState:
    """Train what is left, a network or trees."""
    train, stop = _shard("train", peers.rank, peers.size), _shard("stop")
    task = task_from(settings["task"])
    if config.model == "trees":
        threads = torch.get_num_threads()
        growth = Growth(task, train, stop, config, threads, peers.rank, peers.size)
        return grow(growth, resume=resume, on_epoch=reporter.after_epoch)
    shape = InputShape.model_validate_json(settings["shape"])
    torch.manual_seed(config.seed)
    network = build_network(config.network, shape, task).to(ray.train.torch.get_device())
    return fit(
        network,
        train,
        stop,
        config,
        resume=resume,
        on_epoch=reporter.after_epoch,
        on_step=reporter.step,
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
    """Tell of each epoch; rank 0 writes its checkpoint while the next one is trained."""

    def __init__(self, peers: RayPeers, writer: ProgressWriter, checkpoints: Checkpoints) -> None:
        self._peers, self._writer, self._checkpoints = peers, writer, checkpoints

    def step(self, step: Step) -> None:
        if not self._peers.rank:
            self._writer.step(step)

    def after_epoch(self, state: FitState) -> None:
        first = not self._peers.rank
        rate = self._writer.after_epoch(state, write=first)
        self._refuse_failure()
        if first:
            self._checkpoints.save(state)
        ray.train.report(_metrics(state, rate))
        self._writer.go_on()

    def end(self, state: FitState) -> None:
        """Report the last checkpoint, once it is whole; Ray Train hears of no other."""
        self._refuse_failure()
        place = None if self._peers.rank else self._checkpoints.last(state)
        ray.train.report(
            _metrics(state, self._writer.rate),
            checkpoint=place and ray.train.Checkpoint.from_directory(str(place)),
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD,
        )

    def _refuse_failure(self) -> None:
        """Raise CheckpointFailed on all workers together where the first could not write."""
        told = None if self._peers.rank else self._checkpoints.failure()
        if (told := self._peers.from_first(told)) is not None:
            raise CheckpointFailed(told)


def _metrics(state: FitState, rate: float) -> dict[str, Any]:
    epoch = state.latest.model_dump(exclude_none=True)
    return {"stage": state.stage, **epoch, "rows_per_second": rate}


def _resume(folder: Path, fingerprint: str, peers: RayPeers) -> Kept | None:
    """Read the latest whole checkpoint that every worker sees; None to start at the beginning."""
    found = read_checkpoints(folder, fingerprint)
    number = peers.from_first(max(found, default=0))
    if not number:
        return None
    if number not in found:
        raise RuntimeError(
            f"the first worker goes on after epoch {number}, whose checkpoint is not whole here in "
            f"{folder}; every worker must see the same folder"
        )
    return found[number]


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

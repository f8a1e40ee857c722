"""What one training worker does: its shard into tensors once, then epochs with a checkpoint each.

A shard, 4 bytes a number and 8 a code, has to fit into its worker's memory, which holds it once:
more rows ask for more workers. Every node reads all encoded blocks once, from the object store.
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

import ray.data
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import prepare_model
from torch.nn.modules import Module
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from app.data.features import InputShape
from app.model.networks import Network, TabularNetwork, build_network
from app.model.tasks import task_from
from app.priority import give_way
from app.sections import TrainingConfig
from app.training.boosting import Growth, grow
from app.training.checkpoints import CheckpointFailed, Checkpoints, Kept, read_checkpoints
from app.training.circumstances import sum_in_one_order, surroundings_here
from app.training.divergence import TrainingDiverged
from app.training.fitting import fit
from app.training.progress import ProgressWriter, Step
from app.training.rows import Block, shard, whole
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
    settings, the `folder` of the run for the record of its progress, how it works in the
    `background`.
    """
    give_way(settings["background"])
    first_step = FirstStep(time.perf_counter())
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
        reporter = _Reporter(peers, writer, checkpoints, first_step)
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
    stop = whole(read_blocks("stop"))
    train, everything = shard(read_blocks("train"), peers.rank, peers.size, stop)
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
        module=shared_network(network, config) if peers.size > 1 else network,
        peers=peers,
        everything=everything,
    )


class FirstStep:
    """The seconds from a moment to the end of the first optimizer step since."""

    def __init__(self, since: float) -> None:
        """Wait for a step of any optimizer of this process."""
        self._since = since
        self.seconds: float | None = None
        self._hook = register_optimizer_step_post_hook(self._note)

    def _note(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._hook.remove()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._since


def shared_network(network: Network, config: TrainingConfig) -> Module:
    """Let workers share gradients, which are sent while others are still computed."""
    # Buffers of our own network never change; a user's may.
    constant = isinstance(network, TabularNetwork)
    options = {
        "gradient_as_bucket_view": True,
        "broadcast_buffers": not constant,
        "static_graph": constant and not config.compile,
    }
    return prepare_model(network, parallel_strategy_kwargs=options)


def _told(config: TrainingConfig, peers: RayPeers) -> list[str]:
    """Let every worker say what it runs in."""
    device = str(ray.train.torch.get_device()) if config.use_gpu else "cpu"
    here = surroundings_here(rank=peers.rank, device=device).model_dump_json()
    # XGBoost's workers have a communicator of their own, for histograms only.
    return [here] if config.model == "trees" else peers.gather(here)


class _Reporter:
    """Tell of each epoch; rank 0 writes its checkpoint while the next one is trained."""

    def __init__(
        self,
        peers: RayPeers,
        writer: ProgressWriter,
        checkpoints: Checkpoints,
        first_step: FirstStep,
    ) -> None:
        self._peers, self._writer, self._checkpoints = peers, writer, checkpoints
        self._first_step = first_step

    def step(self, step: Step) -> None:
        if not self._peers.rank:
            self._writer.step(step)

    def after_epoch(self, state: FitState) -> None:
        first = not self._peers.rank
        rate = self._writer.after_epoch(state, write=first)
        self._refuse_failure()
        if first:
            self._checkpoints.save(state)
        ray.train.report(self._metrics(state, rate))
        self._writer.go_on()

    def end(self, state: FitState) -> None:
        """Report the last checkpoint, once it is whole; Ray Train hears of no other."""
        self._refuse_failure()
        place = None if self._peers.rank else self._checkpoints.last(state)
        ray.train.report(
            self._metrics(state, self._writer.rate),
            checkpoint=place and ray.train.Checkpoint.from_directory(str(place)),
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD,
        )

    def _refuse_failure(self) -> None:
        """Raise CheckpointFailed on all workers together where the first could not write."""
        told = None if self._peers.rank else self._checkpoints.failure()
        if (told := self._peers.from_first(told)) is not None:
            raise CheckpointFailed(told)

    def _metrics(self, state: FitState, rate: float) -> dict[str, Any]:
        epoch = state.latest.model_dump(exclude_none=True)
        metrics = {"stage": state.stage, **epoch, "rows_per_second": rate}
        if self._first_step.seconds is not None:
            metrics["first_batch_s"] = self._first_step.seconds
        return metrics


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


def read_blocks(name: str) -> list[Block]:
    """Read all encoded blocks; they stay in the object store's memory, where they can."""
    return list(
        ray.train.get_dataset_shard(name).iter_batches(
            batch_size=None, batch_format="numpy", prefetch_batches=4
        )
    )

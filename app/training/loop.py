"""What one training worker does: its shard into tensors once, then epochs with a checkpoint each.

Knows Ray Train's worker side and the core in fitting.py; knows nothing of tables, bundles or the
registry. Checkpoints are safetensors and JSON with a manifest; an incomplete or altered one is not
resumed from.
"""

import logging
import os
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.train.torch import prepare_model

from app.data.features import Encoded, InputShape
from app.model.manifest import ArtifactAltered, read_folder, write_folder
from app.model.networks import build_network
from app.model.tasks import task_from
from app.sections import TrainingConfig
from app.training.divergence import TrainingDiverged
from app.training.fitting import fit
from app.training.progress import ProgressWriter, Step
from app.training.rows import Rows
from app.training.state import FitState

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

    def _reduce(self, value: float, how: Any) -> float:
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=ray.train.torch.get_device())
        torch.distributed.all_reduce(tensor, op=how)
        return float(tensor.item())


def train_loop(settings: dict[str, Any]) -> str | None:
    """Run one worker; return why it will not go better when it is tried again, if that is so.

    Settings: `training` and `shape` as JSON, the `task` as its fields, `fingerprint` of data and
    settings, the `folder` of the run for the record of its progress.
    """
    config = TrainingConfig.model_validate_json(settings["training"])
    shape = InputShape.model_validate_json(settings["shape"])
    torch.set_num_threads(min(config.threads_per_worker, os.cpu_count() or 1))
    peers = RayPeers()
    train, stop = _shard("train"), _shard("stop")
    torch.manual_seed(config.seed)
    network = build_network(config.network, shape, task_from(settings["task"]))
    network = network.to(ray.train.torch.get_device())
    module = prepare_model(network) if peers.size > 1 else network
    resume = _last_state(settings["fingerprint"])
    writer = ProgressWriter(
        Path(settings["folder"]), config, resume or FitState(), time.perf_counter, uuid.uuid4().hex
    )
    reporter = _Reporter(settings["fingerprint"], peers.rank, writer)
    if resume is not None and resume.is_finished(config):
        # Died between the last epoch and the end of the run: there is nothing left but to say so.
        reporter.report(resume, 0.0)
        return None
    try:
        fit(
            network,
            train,
            stop,
            config,
            resume=resume,
            on_epoch=reporter.after_epoch,
            on_step=reporter.step,
            module=module,
            peers=peers,
        )
    except TrainingDiverged as error:
        # Raised, it would be tried again; the run is deterministic, and ends the same.
        logger.error("%s", error)
        return str(error)
    return None


class _Reporter:
    """Report each epoch to Ray Train, with a checkpoint from rank 0."""

    def __init__(self, fingerprint: str, rank: int, writer: ProgressWriter) -> None:
        self._fingerprint, self._rank, self._writer = fingerprint, rank, writer

    def step(self, step: Step) -> None:
        if not self._rank:
            self._writer.step(step)

    def after_epoch(self, state: FitState) -> None:
        rate = self._writer.after_epoch(state, write=not self._rank)
        self.report(state, rate)
        self._writer.go_on()

    def report(self, state: FitState, rows_per_second: float) -> None:
        epoch = {"stage": state.stage, **state.latest.model_dump(exclude_none=True)}
        metrics = {**epoch, "rows_per_second": rows_per_second}
        if self._rank:
            ray.train.report(metrics, checkpoint=None)
            return
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder), state.to_files(self._fingerprint))
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _last_state(fingerprint: str) -> FitState | None:
    """Read the latest checkpoint of this run; None to start at the beginning."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        try:
            files = read_folder(Path(folder))
        except ArtifactAltered as error:
            # The run is deterministic: starting over costs time and changes nothing.
            logger.warning("checkpoint not used, training starts over: %s", error)
            return None
    return FitState.from_files(files, fingerprint)


def _shard(name: str) -> Rows:
    """Bring this worker's rows into memory once, in the snapshot's order whatever way they came."""
    batches = list(
        ray.train.get_dataset_shard(name).iter_batches(batch_size=None, batch_format="numpy")
    )
    columns = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    order = np.argsort(columns["place"])
    encoded = Encoded(columns["numbers"][order], columns["categories"][order])
    groups = columns["list"][order] if "list" in columns else None
    return Rows(encoded, columns["label"][order], groups)

"""How busy a GPU is, as nvidia-smi tells it, and one process group of NCCL.

The share is that of the time in which any kernel ran, sampled five times a second.
"""

import contextlib
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")
EVERY_MS = 200


@dataclass
class Busy:
    """The share of time in which the card computed."""

    share: float = 0.0


@contextlib.contextmanager
def watched(device: int = 0) -> Iterator[Busy]:
    """Sample the card's utilisation during a `with` block."""
    busy = Busy()
    command = [*QUERY, f"--id={device}", f"--loop-ms={EVERY_MS}"]
    sampler = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield busy
    finally:
        sampler.terminate()
        told, _ = sampler.communicate()
        # The last line may be cut off.
        samples = [int(line) for line in told.splitlines()[:-1] if line.strip().isdigit()]
        busy.share = round(statistics.mean(samples) / 100, 3) if samples else 0.0


@contextlib.contextmanager
def nccl_of_one(network: nn.Module) -> Iterator[nn.Module]:
    """Share gradients with nobody, by NCCL: the path of several GPUs with one process."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("nccl", store=store, rank=0, world_size=1)
    try:
        yield DistributedDataParallel(
            network, gradient_as_bucket_view=True, broadcast_buffers=False, static_graph=True
        )
    finally:
        torch.distributed.destroy_process_group()

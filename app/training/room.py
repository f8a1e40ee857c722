"""What the cluster has, what workers get of it, and whether a run waits for it.

Knows how Ray is asked; what follows from it is in needs.py.
"""

import time
from collections.abc import Callable

import ray
from ray._private.state import state as cluster_state
from ray.train import ScalingConfig
from ray.util import placement_group_table

from app.config import Config
from app.data.features import Encoder
from app.sections import TrainingConfig
from app.training.assembly import new_network
from app.training.needs import (
    Needs,
    Node,
    Room,
    explain_spill,
    explain_wait,
    refuse_impossible,
)
from app.training.progress import Watch
from app.training.window import Window

WAIT_SECONDS = 10.0
# With spinning OpenMP threads, a neighbour on one core makes a step twenty times slower; passive
# ones share it.
WORKER_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "{threads}"}
# Read by cuBLAS when it starts: without a workspace of fixed size it may sum in another order.
DETERMINISTIC_ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def look_around() -> Room:
    """Ask the cluster what it has in all."""
    nodes = [
        node["Resources"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    return Room(
        tuple(Node(n.get("CPU", 0), n.get("GPU", 0), n.get("memory", 0)) for n in nodes),
        sum(node.get("object_store_memory", 0) for node in nodes),
        grows=cluster_state.get_max_resources_from_cluster_config() is not None,
    )


def refuse_too_many(config: TrainingConfig) -> None:
    """Raise ValueError when the cluster can never give the workers their CPUs and GPUs."""
    refuse_impossible(Needs.of(config), look_around())


def refuse_too_large(config: Config, window: Window, encoder: Encoder, watch: Watch) -> Needs:
    """Raise ValueError when no memory can hold rows and network; say when rows go to disk."""
    network = new_network(config, encoder.shape, window.task)
    is_network = config.training.model == "network"
    needs = Needs.of(config.training).with_rows(
        encoder.shape,
        len(window.labelled_train),
        len(window.labelled_stop),
        sum(weights.numel() for weights in network.parameters()) if is_network else 0,
    )
    room = look_around()
    refuse_impossible(needs, room)
    if (spill := explain_spill(needs, room)) is not None:
        watch.phase(spill)
    return needs


def scaling(config: TrainingConfig) -> ScalingConfig:
    """Say how many workers there are, and what each gets."""
    fixed, most = config.num_workers, config.max_workers
    return ScalingConfig(
        num_workers=fixed if most is None else (fixed, most),  # type: ignore[arg-type]
        use_gpu=config.use_gpu,
        resources_per_worker={"CPU": config.cpus_per_worker},
    )


def worker_environment(training: TrainingConfig) -> dict[str, str]:
    """Give what a worker's process is started with."""
    threads = training.threads_per_worker
    chosen = {name: value.format(threads=threads) for name, value in WORKER_ENVIRONMENT.items()}
    if training.use_gpu and training.deterministic:
        chosen |= DETERMINISTIC_ENVIRONMENT
    return chosen


class Waiting:
    """Says what a run's workers wait for, once they have waited for a while."""

    def __init__(self, needs: Needs, clock: Callable[[], float] = time.monotonic) -> None:
        self._needs, self._clock = needs, clock
        self._since = clock()

    def __call__(self) -> str | None:
        """Say it at most every ten seconds; None where nothing is to be said."""
        if self._clock() - self._since < WAIT_SECONDS:
            return None
        self._since = self._clock()
        if not self._is_pending():
            return None
        free = ray.available_resources()  # type: ignore[no-untyped-call]
        total = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return explain_wait(
            self._needs,
            round(free.get("CPU", 0), 2),
            total.get("CPU", 0),
            free.get("GPU", 0),
            total.get("GPU", 0),
        )

    def _is_pending(self) -> bool:
        """Tell whether workers of this shape have no place yet."""
        return any(
            group["state"] == "PENDING"
            and len(group["bundles"]) == self._needs.num_workers
            and all(b.get("CPU", 0) == self._needs.cpus for b in group["bundles"].values())
            for group in placement_group_table().values()
        )

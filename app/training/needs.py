"""What a run needs, whether that is there, and why a worker died: said before, while and after.

Knows counts of rows, CPUs and bytes, and what Ray writes when a process is gone; knows nothing of
how a cluster is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.data.features import InputShape
from app.sections import TrainingConfig
from app.training.divergence import TrainingDiverged

# A worker's process with torch and Ray, before it has a row.
PROCESS_BYTES = 400 * 10**6
# Rows are put together, then into order: for a moment they are there twice.
COPIES_OF_ROWS = 2
# Weights, gradients, two moments, average and best; the same again on the way into a checkpoint.
COPIES_OF_WEIGHTS = 12


class RunFailed(RuntimeError):
    """The workers failed more often than a run is taken up again."""

    @classmethod
    def after(cls, run: str, num_times: int, told: str) -> "RunFailed":
        """Say why, from what Ray told of the last failure; the same command goes on."""
        *_, last = [line.strip() for line in told.splitlines() if line.strip()]
        why = explain_death(told) or last
        return cls(
            f"run {run} failed {num_times} times: {why}; once that is mended, the same command "
            "goes on after the last whole epoch"
        )


def raise_hopeless(run: str, ended: Mapping[str, str] | None) -> None:
    """Raise what workers gave back where trying again is in vain; None is a run that went well."""
    if ended is None:
        return
    if ended["kind"] == TrainingDiverged.__name__:
        raise TrainingDiverged(f"run {run}: {ended['told']}; nothing was stored")
    raise RunFailed(f"run {run}: {ended['told']}")


@dataclass(frozen=True)
class Node:
    """What one machine of the cluster has."""

    cpus: float
    gpus: float
    memory: float
    """Bytes, beside the object store."""


@dataclass(frozen=True)
class Room:
    """What a cluster has, whoever uses it now."""

    nodes: tuple[Node, ...]
    object_store: float
    """Bytes."""
    grows: bool = False
    """Whether an autoscaler may add machines."""


@dataclass(frozen=True)
class Needs:
    """What a run asks for."""

    num_workers: int
    cpus: float
    """Of a worker."""
    gpus: float
    """Of a worker."""
    memory: float = 0
    """Bytes of a worker, about; 0 while unknown."""
    rows: float = 0
    """Bytes of all encoded rows, which the object store holds once."""

    @classmethod
    def of(cls, config: TrainingConfig) -> "Needs":
        """Count what the settings alone ask for, at least."""
        gpus = 1.0 if config.use_gpu else 0.0
        return cls(config.num_workers, config.cpus_per_worker, gpus)

    def with_rows(
        self, shape: InputShape, num_train: int, num_stop: int, num_weights: int
    ) -> "Needs":
        """Count memory too: rows that are encoded, and a network of so many weights."""
        row = 4 * len(shape.num_bins) + 8 * len(shape.num_categories) + 8 + 8
        # Every worker judges itself on all stop rows.
        rows = COPIES_OF_ROWS * row * (num_train / self.num_workers + num_stop)
        weights = 4 * COPIES_OF_WEIGHTS * num_weights
        return Needs(
            self.num_workers,
            self.cpus,
            self.gpus,
            PROCESS_BYTES + rows + weights,
            row * (num_train + num_stop),
        )


def refuse_impossible(needs: Needs, room: Room) -> None:
    """Raise ValueError with every reason why a cluster can never hold a run's workers.

    A cluster that grows is asked in vain only for what Ray itself would refuse: nothing is refused.
    """
    reasons = [] if room.grows else list(_never(needs, room))
    if reasons:
        raise ValueError("this cluster can never run the workers: " + "; ".join(reasons))


def _never(needs: Needs, room: Room) -> Sequence[str]:
    found = []
    asked = [
        ("CPU", needs.cpus, [node.cpus for node in room.nodes], "training.cpus_per_worker"),
        ("GPU", needs.gpus, [node.gpus for node in room.nodes], "set training.use_gpu to false"),
    ]
    for what, each, there, change in asked:
        if each and _num_fit(each, there) < needs.num_workers:
            found.append(
                f"{needs.num_workers} worker(s) with {each:g} {what} each, got nodes with "
                f"{_list(there)}; lower training.num_workers or "
                + (change if what == "GPU" else f"{change}, or raise cluster.num_cpus")
            )
    memory = [node.memory for node in room.nodes]
    if needs.memory and _num_fit(needs.memory, memory) < needs.num_workers:
        found.append(
            f"{needs.num_workers} worker(s) with about {size(needs.memory)} of memory each, got "
            f"nodes with {', '.join(size(each) for each in memory)}; lower training.window_days, "
            "or spread the rows over more machines by training.num_workers"
        )
    return found


def _num_fit(each: float, there: Sequence[float]) -> int:
    """Count how many workers find room.

    >>> _num_fit(1.0, [2.0, 0.5, 1.5]), _num_fit(0.5, [0.5])
    (3, 1)
    """
    # Half a CPU twice is one CPU, also where it is .9999.
    return sum(int(node / each + 1e-6) for node in there)


def explain_wait(needs: Needs, free_cpus: float, cpus: float, free_gpus: float, gpus: float) -> str:
    """Say what workers wait for that find no room now."""
    asked = f"{needs.cpus:g} CPU" + (f" and {needs.gpus:g} GPU" if needs.gpus else "")
    there = f"{free_cpus:g} of {cpus:g} CPUs"
    there += f" and {free_gpus:g} of {gpus:g} GPUs" if needs.gpus else ""
    return (
        f"waiting for room for {needs.num_workers} worker(s) with {asked} each: {there} are free; "
        "others use the rest"
    )


def explain_spill(needs: Needs, room: Room) -> str | None:
    """Say that rows go through the disk; None where they do not."""
    if needs.rows <= room.object_store:
        return None
    return (
        f"the encoded rows take {size(needs.rows)}, the object store has "
        f"{size(room.object_store)}: the rest goes to disk, which is slow; raise "
        "cluster.object_store_mb"
    )


def explain_death(told: str) -> str | None:
    """Say in a line why workers died, from all that was told of it; None for a reason of its own.

    >>> explain_death("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate")[:28]
    'the GPU has too little memor'
    >>> explain_death("ValueError: no")
    """
    for signs, why in _DEATHS:
        if any(sign in told for sign in signs):
            return why
    return None


_LESS = "lower training.window_days or raise training.num_workers over more machines"
_DEATHS = (
    (
        ("CUDA out of memory", "CUDA error: out of memory"),
        "the GPU has too little memory; lower training.batch_rows or the size of the network",
    ),
    (
        ("OutOfMemoryError", "running low on memory", "MemoryError", "exit code -9"),
        f"a worker was ended because its machine ran out of memory; {_LESS}, or give it more",
    ),
    (
        ("No space left on device", "ENOSPC", "Disk quota exceeded"),
        "the disk is full",
    ),
    (
        ("SIGKILL", "connection error code 2", "Socket closed"),
        "a worker was killed from outside, most often by the system for want of memory "
        f"(see dmesg there); {_LESS}, or give it more",
    ),
)


def size(num_bytes: float) -> str:
    """Write bytes as people do.

    >>> size(3.2e9), size(450e6), size(28_908)
    ('3.2 GB', '450 MB', '29 kB')
    """
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:.1f} GB"
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"


def _list(there: Sequence[float]) -> str:
    return ", ".join(f"{each:g}" for each in there) or "none"

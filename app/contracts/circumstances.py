"""What a run was made under: code, packages, machine, and the settings that arithmetic depends on.

Frozen facts, JSON on disk. None holds a host's name, a path, or a value of the environment beyond
those that numerical libraries read.
"""

import hashlib
from typing import Literal

from pydantic import Field

from app.contracts.rows import Frozen

Effect = Literal["none", "bits", "model"]
"""What a difference may change: nothing, the last bits, or the model itself."""


class Code(Frozen):
    """The sources that ran."""

    version: str = Field(description="Digest of the sources: the truth, also where no git is.")
    revision: str | None = Field(None, description="Git commit; absent without git.")
    dirty: bool | None = Field(None, description="Whether the sources differ from that commit.")
    changes: str | None = Field(None, description="Digest of how they differ; absent when clean.")


class Software(Frozen):
    """What was installed where something ran."""

    python: str
    packages: dict[str, str] = Field(description="Versions of the packages that compute.")
    installed: str | None = Field(
        None, description="Digest of every installed distribution; read where the run began."
    )


class Machine(Frozen):
    """The kind of machine, never which one."""

    system: str
    processor: str = Field(description="Model name of the CPU.")
    cores: int = Field(ge=1, description="Logical CPUs that the system has.")
    flags: str = Field(description="Digest of the CPU's instruction flags; empty where unknown.")
    libc: str
    gpus: tuple[str, ...] = ()
    gpu_driver: str | None = None


class Arithmetic(Frozen):
    """Settings of one process that the last bits of a sum depend on."""

    threads: int = Field(ge=1, description="Torch threads within an operation.")
    interop_threads: int = Field(ge=1)
    capability: str = Field(description="Instruction set that torch chose, such as AVX512.")
    build: str = Field(description="Digest of torch's build settings.")
    libraries: dict[str, bool] = Field(description="MKL, oneDNN, OpenMP, CUDA: in use or not.")
    device: str = "cpu"
    deterministic: bool = Field(False, description="Torch was told to avoid random orders.")
    float32_precision: str = "highest"
    environment: dict[str, str] = Field(
        default_factory=dict, description="Variables that numerical libraries read."
    )


class Surroundings(Frozen):
    """What one process ran in."""

    rank: int | None = Field(None, description="Of a worker; absent where the run was begun.")
    software: Software
    machine: Machine
    arithmetic: Arithmetic


class Circumstances(Frozen):
    """Everything beside data and configuration that a run's result may depend on."""

    code: Code
    driver: Surroundings
    workers: tuple[Surroundings, ...] = Field(
        (), description="In order of appearance; a rank that moved elsewhere appears again."
    )

    @property
    def digest(self) -> str:
        """Name these circumstances shortly."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class Difference(Frozen):
    """One circumstance or setting that two runs do not share, with both values."""

    name: str
    first: str
    second: str
    effect: Effect

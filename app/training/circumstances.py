"""Find out what a run is made under: code, packages, machine, settings of arithmetic.

Knows git, the kernel's files and torch's settings; knows nothing of Ray or of what a run computes.
Whoever trains calls it where the training happens: on a cluster that is another machine than the
one where the run was begun.
"""

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from app.contracts.circumstances import (
    Arithmetic,
    Circumstances,
    Code,
    Machine,
    Software,
    Surroundings,
)
from app.training.assembly import SOURCES, code_version

COMPUTING = ("numpy", "pyarrow", "pydantic", "ray", "safetensors", "scipy", "torch", "xgboost")
# What a model is made by, below the project's root: other files may change as they like.
MADE_BY = ("app", "jobs", "configs", "pyproject.toml", "constraints.txt")
NUMERICAL = re.compile(
    r"(OMP|KMP|GOMP|MKL|OPENBLAS|ONEDNN|DNNL|ATEN|CUBLAS|NCCL)_|NVIDIA_TF32_OVERRIDE$"
)
GIT_SECONDS = 20
_LIBRARIES: dict[str, Callable[[], bool]] = {
    "mkl": torch.backends.mkl.is_available,
    "onednn": torch.backends.mkldnn.is_available,
    "openmp": torch.backends.openmp.is_available,
    "cuda": torch.backends.cuda.is_built,
}


def circumstances_here() -> Circumstances:
    """Describe the code and the process that begins a run; its workers are added later."""
    return Circumstances(code=code_at(SOURCES.parent), driver=surroundings_here(whole=True))


def surroundings_here(
    *, rank: int | None = None, device: str = "cpu", whole: bool = False
) -> Surroundings:
    """Describe this process and its machine; `whole` digests every installed distribution too."""
    return Surroundings(
        rank=rank,
        software=software_here(whole=whole),
        machine=machine_here(),
        arithmetic=arithmetic_here(device, os.environ),
    )


def code_at(root: Path) -> Code:
    """Describe the sources and, when `root` is a git work tree that holds them, how they stand."""
    version = code_version()
    # A project may be installed below another one's repository, which says nothing about it.
    if _git(root, "ls-files", "--error-unmatch", "app/__init__.py") is None:
        return Code(version=version)
    revision = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "--", *MADE_BY)
    if revision is None or status is None:
        return Code(version=version)
    return Code(
        version=version,
        revision=revision.decode().strip(),
        dirty=bool(status),
        changes=_changes(root) if status else None,
    )


def _changes(root: Path) -> str:
    """Digest what differs from the last commit, files that git does not know among it."""
    digest = hashlib.sha256(_git(root, "diff", "--binary", "HEAD", "--", *MADE_BY) or b"")
    new = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *MADE_BY) or b""
    for name in sorted(filter(None, new.split(b"\0"))):
        digest.update(name + b"\0" + (root / os.fsdecode(name)).read_bytes())
    return digest.hexdigest()[:16]


def _git(root: Path, *arguments: str) -> bytes | None:
    """Ask git; None where there is none, or no repository."""
    # Whoever set these meant another repository than the one that holds this code.
    environment = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE")}
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=GIT_SECONDS, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def software_here(*, whole: bool) -> Software:
    """List the packages that compute; `whole` adds a digest of all that are installed."""
    packages = {}
    for name in COMPUTING:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Software(
        python=platform.python_version(),
        packages=packages,
        installed=_installed() if whole else None,
    )


def _installed() -> str:
    # Not those on the path: whoever imported Ray has its bundled copies there too.
    folders = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    distributions = importlib.metadata.distributions(path=folders)
    found = {(each.metadata["Name"], each.version) for each in distributions}
    lines = sorted(f"{name}=={version}" for name, version in found)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def machine_here(proc: Path = Path("/proc")) -> Machine:
    """Describe this machine's kind from the kernel's files; without them, as Python knows it."""
    facts = _cpu_facts(proc / "cpuinfo")
    flags = " ".join(sorted(facts.get("flags", facts.get("Features", "")).split()))
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        processor=facts.get("model name") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        flags=hashlib.sha256(flags.encode()).hexdigest()[:16] if flags else "",
        libc=" ".join(platform.libc_ver()).strip(),
        gpus=_gpus(proc / "driver" / "nvidia" / "gpus"),
        gpu_driver=_gpu_driver(proc / "driver" / "nvidia" / "version"),
    )


def _cpu_facts(file: Path) -> dict[str, str]:
    """Read what the kernel says of the first CPU."""
    if not file.is_file():
        return {}
    first = file.read_text(errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _gpus(folder: Path) -> tuple[str, ...]:
    """Name the NVIDIA cards from their driver's files: asking CUDA would take memory on each."""
    texts = [file.read_text(errors="replace") for file in sorted(folder.glob("*/information"))]
    models = (re.search(r"Model:\s*(.+)", text) for text in texts)
    return tuple(found[1].strip() for found in models if found)


def _gpu_driver(file: Path) -> str | None:
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", file.read_text()) if file.is_file() else None
    return found[0] if found else None


def arithmetic_here(device: str, environment: Mapping[str, str]) -> Arithmetic:
    """Describe what the last bits of this process's sums depend on."""
    return Arithmetic(
        threads=torch.get_num_threads(),
        interop_threads=torch.get_num_interop_threads(),
        capability=torch.backends.cpu.get_cpu_capability(),
        build=hashlib.sha256(torch.__config__.show().encode()).hexdigest()[:16],
        libraries={name: bool(each()) for name, each in _LIBRARIES.items()},
        device=torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        deterministic=torch.are_deterministic_algorithms_enabled(),
        float32_precision=torch.get_float32_matmul_precision(),
        environment={k: v for k, v in sorted(environment.items()) if NUMERICAL.match(k)},
    )


def sum_in_one_order() -> None:
    """Tell torch to take operations on a GPU whose result does not depend on a race.

    Where it knows none it warns and goes on: the run's comparison says then what came of it.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    # Filling memory that is about to be written would cost a pass over it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

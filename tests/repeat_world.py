"""Finished runs without a cluster: trained in this process, kept as the shell keeps them."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from app.config import Config
from app.contracts.circumstances import (
    Arithmetic,
    Circumstances,
    Code,
    Machine,
    Software,
    Surroundings,
)
from app.contracts.erasure import Reduction
from app.contracts.records import DatasetVersion, TrainingResult
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.tables import open_tables
from app.registry.artifacts import Artifacts
from app.training.assembly import fit_in_process
from app.training.circumstances import circumstances_here, surroundings_here
from app.training.plans import RunPlan, begin_plan, write_circumstances, write_result
from tests.learning_world import CONTRACT, END, START, fill_tables, make_config, make_rows


def train_here(
    config: Config,
    dataset: DatasetVersion,
    run: str,
    at: datetime,
    reductions: Sequence[Reduction] = (),
) -> TrainingResult:
    """Do what the shell does, with this process as the worker."""
    circumstances = circumstances_here()
    new = RunPlan(
        dataset=dataset,
        created_at=at,
        configuration=config.model_dump(mode="json"),
        circumstances=circumstances,
    )
    plan = begin_plan(config, run, new)
    rows = load_snapshot(open_tables(config), config.contract, plan.dataset, reductions)
    facts = {"dataset": plan.dataset.content}
    fitted = fit_in_process(config, rows, plan.dataset.end, facts=facts)
    folder = config.workspace / "new" / run
    fitted.bundle.save(folder)
    Artifacts(config.artifacts_path).put(folder)
    made = circumstances.model_copy(update={"workers": (surroundings_here(rank=0),)})
    write_circumstances(config, run, made)
    version = fitted.version(config, plan.dataset, run, at)
    version = version.model_copy(update={"circumstances": made.digest})
    result = TrainingResult(version=version, seconds=1.0, num_epochs=3, rows_per_second=1.0)
    write_result(config, run, result)
    return result


def make_run(workspace: Path, run: str = "first") -> Config:
    """Make a workspace with rows and one finished run."""
    config = make_config(workspace)
    tables = fill_tables(config, make_rows())
    train_here(config, take_snapshot(tables, CONTRACT, START, END, END), run, END)
    return config


def surroundings(rank: int | None = None, **changes: object) -> Surroundings:
    """Make what a process may have run in; `changes` go to whichever part has that field."""
    parts = (
        Software(python="3.11.9", packages={"torch": "2.9.0"}, installed=None if rank else "aa"),
        Machine(system="Linux x86_64", processor="Some CPU", cores=2, flags="ab", libc="glibc 2"),
        Arithmetic(
            threads=1,
            interop_threads=1,
            capability="AVX2",
            build="ba",
            libraries={"mkl": True},
            environment={"OMP_NUM_THREADS": "1"},
        ),
    )
    changed = [
        part.model_copy(update={k: v for k, v in changes.items() if k in type(part).model_fields})
        for part in parts
    ]
    return Surroundings.model_validate(
        {"rank": rank, **dict(zip(("software", "machine", "arithmetic"), changed, strict=True))}
    )


def circumstances(
    num_workers: int = 1, code: Code | None = None, **changes: object
) -> Circumstances:
    """Make circumstances whose processes are all alike."""
    return Circumstances(
        code=code or Code(version="c0de", revision="a1", dirty=False),
        driver=surroundings(**changes),
        workers=tuple(surroundings(rank, **changes) for rank in range(num_workers)),
    )


def moved(made: Circumstances, **changes: object) -> Circumstances:
    """Let the first worker have begun elsewhere."""
    return made.model_copy(update={"workers": (surroundings(0, **changes), *made.workers)})

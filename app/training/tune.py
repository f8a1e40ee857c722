"""Run a search on the cluster with Ray Tune: trials at a time, the laggards stopped by ASHA.

Knows Ray; what to try, what it came to and what it cost is decided and kept in tuning.py and
study.py. A trial of one worker without a GPU is one process that fits in place: on small data the
start of a Ray Train run would cost more than the fit. Other trials run Ray Train within.

Ray Tune's own notes of a search are pickles and die with the search: they lie in a folder that is
thrown away. A search that is resumed is a new one to Ray; it is handed what the study knows.
"""

import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable

import ray
from pydantic import AwareDatetime
from ray import tune

from app.config import Config
from app.contracts.records import DatasetVersion
from app.data.history import windows_of_any_size
from app.data.snapshots import load_snapshot
from app.data.tables import open_tables
from app.model.manifest import write_file
from app.training.assembly import SECTIONS
from app.training.blocks import DATA_CPUS
from app.training.plans import PLAN, RunPlan, run_folder
from app.training.searching import SpentStopper, StudySearcher, scheduler, trial_folder
from app.training.study import Trials
from app.training.train import quieten_data
from app.training.trying import RowsActor, fit_alone, fit_with_workers
from app.training.tuning import Search, SearchReport, Standing, report_of
from app.training.window import open_window

ENVIRONMENT = {
    # Nothing of a trial is written but what the study keeps.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Its newer output writes to stdout whatever the verbosity, where a job's record belongs.
    "RAY_AIR_NEW_OUTPUT": "0",
    # The job itself listens to Ctrl-C, and ends trials at their next epoch.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
# A trial that only waits for its workers; Ray Tune knows no trial that needs nothing.
DRIVER_CPUS = 0.1


class SearchPlan(RunPlan):
    """What a search was begun with: going on means the same rows, space and settings."""

    search: str


def fingerprint_of(config: Config) -> str:
    """Digest what trials of a search share; with more trials or minutes it is still the same."""
    budget = {"num_trials": 1, "max_minutes": None, "max_concurrent": 1}
    tuning = config.tuning.model_copy(update=budget)
    return config.model_copy(update={"tuning": tuning}).digest_of(*SECTIONS, "tuning")


def find_search(config: Config, run: str) -> SearchPlan | None:
    """Find what a search of this name was begun with, if it was.

    Raises ValueError when the name belongs to a training run, or to a search of another space.
    """
    file = run_folder(config, run) / PLAN
    if not file.exists():
        return None
    content = file.read_bytes()
    if b'"search"' not in content:
        raise ValueError(f"run {run} is a training run; give the search another name")
    plan = SearchPlan.model_validate_json(content)
    if plan.search != fingerprint_of(config):
        raise ValueError(
            f"run {run} was begun with another space or other settings; give this one another name"
        )
    return plan


def begin_search(
    config: Config, dataset: DatasetVersion, run: str, created_at: AwareDatetime
) -> SearchPlan:
    """Pin the rows that every trial sees. Raises ValueError for a search without a space."""
    if not config.tuning.space:
        raise ValueError("tuning.space is empty; name a setting, as training.learning_rate")
    plan = SearchPlan(dataset=dataset, created_at=created_at, search=fingerprint_of(config))
    folder = run_folder(config, run)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / PLAN, plan.model_dump_json(indent=1).encode())
    return plan


def open_trials(config: Config, run: str) -> Trials:
    """Open the trials of a search that was begun."""
    return Trials(run_folder(config, run), config.tuning)


def run_search(
    config: Config,
    plan: SearchPlan,
    run: str,
    *,
    on_ended: Callable[[Standing], None] = lambda standing: None,
    should_end: Callable[[], bool] = lambda: False,
) -> SearchReport:
    """Try settings until the budget is spent; a search that was interrupted goes on.

    Raises ValueError when one trial needs more CPUs than the cluster has, or the rows cannot be
    trained on; SnapshotAltered when they are not those that were pinned.
    """
    trials, folder = open_trials(config, run), run_folder(config, run)

    def ended(standing: Standing) -> None:
        shutil.rmtree(trial_folder(folder, standing.latest.number), ignore_errors=True)
        on_ended(standing)

    search = Search(config, trials, time.monotonic, ended, should_end)
    if search.has_work():
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        quieten_data()
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        _run(config, plan, run, search)
    return report_of(config, run, plan.created_at, plan.dataset, trials)


def _run(config: Config, plan: SearchPlan, run: str, search: Search) -> None:
    """Let Ray Tune drive the trials."""
    num_at_a_time = concurrent_trials(config, ray.cluster_resources())  # type: ignore[no-untyped-call]
    table = load_snapshot(
        open_tables(config), config.contract, plan.dataset, compute=windows_of_any_size
    )
    window = open_window(config, table, plan.dataset.end)
    parts = ray.put((window.table, window.split))
    rows = ray.remote(num_cpus=0)(RowsActor).remote(config.contract.model_dump_json(), parts)
    is_alone, dataset = _is_alone(config), plan.dataset.digest
    if is_alone:
        threads = min(config.training.threads_per_worker, (os.cpu_count() or 1) // num_at_a_time)
        trainable = tune.with_parameters(
            fit_alone, rows=rows, dataset=dataset, threads=max(threads, 1)
        )
    else:
        trainable = tune.with_parameters(fit_with_workers, rows=rows, parts=parts, dataset=dataset)
    cpus = config.training.cpus_per_worker if is_alone else DRIVER_CPUS
    searcher = StudySearcher(search, run_folder(config, run))
    with tempfile.TemporaryDirectory(prefix="mainspring-tune-") as folder:
        tune.Tuner(
            tune.with_resources(trainable, {"CPU": cpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler(search),
                num_samples=-1,
                max_concurrent_trials=num_at_a_time,
                # A process that has imported torch takes the next trial.
                reuse_actors=is_alone,
            ),
            run_config=tune.RunConfig(
                name=run,
                storage_path=folder,
                stop=SpentStopper(search),
                failure_config=tune.FailureConfig(max_failures=config.training.max_failures),
                verbose=0,
            ),
        ).fit()


def concurrent_trials(config: Config, resources: dict[str, float]) -> int:
    """Give how many trials may run at a time, so that each finds its CPUs and GPUs.

    Trials that hold a part and wait for the rest would wait for each other for ever. Raises
    ValueError when not one fits.
    """
    training = config.training
    need = {"CPU": training.num_workers * training.cpus_per_worker}
    if not _is_alone(config):
        need["CPU"] += DATA_CPUS + DRIVER_CPUS
    if training.use_gpu:
        need["GPU"] = float(training.num_workers)
    for name, amount in need.items():
        if resources.get(name, 0.0) < amount:
            raise ValueError(
                f"a trial needs {amount:g} {name}s, the cluster has {resources.get(name, 0.0):g}; "
                "lower training.num_workers or training.cpus_per_worker, or join a larger cluster"
            )
    fitting = min(math.floor(resources[name] / amount) for name, amount in need.items())
    return min(config.tuning.max_concurrent, fitting)


def _is_alone(config: Config) -> bool:
    return config.training.num_workers == 1 and not config.training.use_gpu

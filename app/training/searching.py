"""What Ray Tune asks of a search: the next trial, what its results mean, when all is over.

Knows Ray Tune's interfaces; the answers come from the search. Ray notes its searchers and stoppers
down in pickles that nobody reads again; these have nothing to note, for the study is on disk.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from app.training.space import max_epochs
from app.training.state import Epoch
from app.training.tuning import Search


def trial_folder(folder: Path, number: int) -> Path:
    """Name the folder of a trial's checkpoints within its search's folder."""
    return folder / "trials" / f"{number:05d}"


def scheduler(search: Search) -> TrialScheduler:
    """Make the ASHA of a search, which knows how trials of earlier sessions fared."""
    asha, most = search.config.tuning.asha, max_epochs(search.config)
    if asha is None or asha.grace_epochs >= most:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    made = AsyncHyperBandScheduler(
        time_attr="number",
        metric="stop_loss",
        mode="min",
        # Beyond the last epoch: a trial that comes to its end was not stopped.
        max_t=most + 1,
        grace_period=asha.grace_epochs,
        reduction_factor=asha.reduction_factor,
    )
    for record in search.trials.records():
        if record.state == "unfinished":
            continue
        trial: Any = SimpleNamespace(trial_id=f"before-{record.number}")
        nobody: Any = None
        made.on_trial_add(nobody, trial)
        for epoch in record.epochs:
            if epoch.stop_loss is not None:
                made.on_trial_result(nobody, trial, epoch.model_dump())
    return made


class StudySearcher(Searcher):
    """Ray Tune's view of a search: hands out what the study draws, hands on what trials tell.

    Ray's own searcher around Optuna keeps a search in a pickle and knows no trial of a session
    before; the study is on disk already, so this one has nothing to keep.
    """

    def __init__(self, search: Search, folder: Path) -> None:
        """Serve one session of a search."""
        super().__init__(metric="stop_loss", mode="min")
        self._search, self._folder = search, folder
        self._numbers: dict[str, int] = {}
        self._failures: dict[str, str] = {}

    def __getstate__(self) -> dict[str, object]:
        """Give nothing: Ray notes a searcher down, and what this one knows is in the study."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Give the next trial's settings."""
        drawn = self._search.draw()
        if drawn is None:
            return Searcher.FINISHED
        number, config = drawn
        self._numbers[trial_id] = number
        return {
            "config": config.model_dump_json(),
            "folder": str(trial_folder(self._folder, number)),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Hand on an epoch, or why there will be none."""
        if "failure" in result:
            self._failures[trial_id] = result["failure"]
            return
        if "number" not in result:
            return
        epoch = Epoch.model_validate({n: result[n] for n in Epoch.model_fields if n in result})
        self._search.heard(self._numbers[trial_id], epoch, result.get("epoch_seconds", 0.0))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Close the trial; of a result after which it was stopped nothing was told before."""
        if result is not None:
            self.on_trial_result(trial_id, result)
        broke = "its process died or broke more than training.max_failures; Ray's logs say more"
        failure = self._failures.get(trial_id, broke if error else "")
        self._search.ended(self._numbers[trial_id], failure)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the study is on disk."""


class SpentStopper(tune.Stopper):
    """Ends every trial at its next epoch once the budget is spent."""

    def __init__(self, search: Search) -> None:
        """Watch one search."""
        self._search = search

    def __getstate__(self) -> dict[str, object]:
        """Give nothing, as the searcher does."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Tell whether the budget is spent."""
        return self._search.is_spent()

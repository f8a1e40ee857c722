"""Who hears how a run goes, and the states that a real one passes through."""

from pathlib import Path

from app.training.assembly import fit_in_process
from app.training.progress import RunProgress
from app.training.state import FitState
from tests.learning_world import END, make_config, make_rows


class Heard:
    """Who is told, and remembers it."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.records: list[RunProgress] = []

    def phase(self, what: str) -> None:
        self.phases.append(what)

    def progress(self, now: RunProgress) -> None:
        self.records.append(now)


def states() -> list[FitState]:
    """The states after each epoch of a real run: a search of three, a refit of its best."""
    found: list[FitState] = []
    config = make_config(Path(), epochs=3, patience=3, min_epochs=3)
    fit_in_process(config, make_rows(600), END, on_epoch=found.append)
    return found

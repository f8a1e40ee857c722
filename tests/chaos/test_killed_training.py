"""Kill a training worker in every epoch and while checkpoints are written: the model is the same.

Run as a script, prints the table of kills: `python -m tests.chaos.test_killed_training`.
"""

import json
import os
import random
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.config import Config
from app.contracts.records import DatasetVersion, TrainingResult
from app.data.snapshots import take_snapshot
from app.registry.artifacts import Artifacts
from app.training import train as shell
from tests.learning_world import CONTRACT, END, START, fill_tables, make_config, make_rows

NUM_KILLS = 20
SEED = 7


class Moment(NamedTuple):
    """When a worker is killed."""

    kind: str
    """"train" within an epoch, or "write" within a file of its checkpoint."""
    epoch: int
    """From 1, through search and refit."""
    share: float
    """Of the epoch's steps, or of the file's bytes."""
    file: int = 0
    """Which file is being written; the last one is the manifest."""


def draw_moments(num_epochs: int, num_kills: int, seed: int) -> list[Moment]:
    """Draw one moment in every epoch, the others within checkpoints; in the order of a run."""
    draw = random.Random(seed)
    drawn = [Moment("train", epoch, draw.random()) for epoch in range(1, num_epochs + 1)]
    while len(drawn) < num_kills:
        epoch, file = draw.randint(1, num_epochs), draw.randrange(3)
        drawn.append(Moment("write", epoch, draw.random(), file))
    return sorted(drawn, key=lambda moment: (moment.epoch, moment.kind))


class DiesAtMoments:
    """Run the real loop, and kill its process at the moment that is next."""

    __name__ = "train_loop"

    def __init__(self, log: Path, moments: list[Moment]) -> None:
        self._log, self._moments = str(log), [tuple(moment) for moment in moments]

    def __call__(self, settings: dict[str, Any]) -> dict[str, str] | None:
        from app.model import manifest
        from app.training import averaging, loop

        num_before = sum(event["what"] == "killed" for event in read_log(Path(self._log)))
        moment = Moment(*self._moments[num_before]) if num_before < len(self._moments) else None
        killer = _Killer(Path(self._log), moment, loop.read_checkpoints, averaging, manifest)
        loop.read_checkpoints = killer.read_checkpoints
        averaging.WeightAverage.update = killer.wrap_update(averaging.WeightAverage.update)
        loop.Checkpoints.save = killer.wrap_save(loop.Checkpoints.save)
        manifest.write_file = killer.wrap_write_file(manifest.write_file)
        return loop.train_loop(settings)


class _Killer:
    """Counts what a worker does, and ends it in the middle."""

    def __init__(self, log: Path, moment: Moment | None, read: Any, *_modules: Any) -> None:
        self._log, self._moment, self._read = log, moment, read
        self._num_ended = self._step = self._writing = self._file = 0
        self._num_steps = 0

    def read_checkpoints(self, folder: Path, fingerprint: str) -> Any:
        found = self._read(folder, fingerprint)
        self._num_ended = max(found, default=0)
        self._tell(what="started", after=self._num_ended)
        return found

    def wrap_update(self, update: Any) -> Any:
        def counted(average: Any) -> None:
            update(average)
            self._step += 1
            if self._is("train", self._num_ended + 1) and self._step >= 1 + 14 * self._share:
                self._kill()

        return counted

    def wrap_save(self, save: Any) -> Any:
        def counted(checkpoints: Any, state: Any) -> None:
            self._num_steps, self._step = self._step or self._num_steps, 0
            self._num_ended = len(state.epochs) + len(state.refit_epochs)
            self._writing, self._file = self._num_ended, 0
            save(checkpoints, state)

        return counted

    def wrap_write_file(self, write_file: Any) -> Any:
        def counted(path: Path, content: bytes) -> None:
            if self._is("write", self._writing) and self._file == self._moment.file:  # type: ignore[union-attr]
                path.write_bytes(content[: int(len(content) * self._share)])
                self._kill()
            self._file += 1
            write_file(path, content)

        return counted

    @property
    def _share(self) -> float:
        assert self._moment is not None
        return self._moment.share

    def _is(self, kind: str, epoch: int) -> bool:
        return self._moment is not None and self._moment[:2] == (kind, epoch)

    def _kill(self) -> None:
        trained = self._num_ended + self._step / max(self._num_steps, 15)
        self._tell(what="killed", trained=trained)
        os.kill(os.getpid(), signal.SIGKILL)

    def _tell(self, **event: Any) -> None:
        with self._log.open("a") as log:
            log.write(json.dumps(event) + "\n")
            log.flush()
            os.fsync(log.fileno())


def read_log(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


class Kill(NamedTuple):
    """A kill and what it cost."""

    moment: Moment
    trained: float
    """Epochs when the worker was killed."""
    after: int
    """Epochs after which the next worker went on."""

    @property
    def lost(self) -> float:
        return self.trained - self.after


def kills(log: Path, moments: list[Moment]) -> Iterator[Kill]:
    events = read_log(log)
    killed = [i for i, event in enumerate(events) if event["what"] == "killed"]
    for moment, i in zip(moments, killed, strict=False):
        yield Kill(moment, events[i]["trained"], events[i + 1]["after"])


def weights(config: Config, result: TrainingResult) -> bytes:
    folder = Artifacts(config.artifacts_path).path(result.version.digest)
    return (folder / "weights.safetensors").read_bytes()


class Outcome(NamedTuple):
    """An undisturbed run and one that was killed."""

    calm: TrainingResult
    wild: TrainingResult
    same_bytes: bool
    kills: list[Kill]


def run_both(folder: Path, num_kills: int, epochs: int = 4) -> Outcome:
    """Train undisturbed, then with kills in every epoch and in checkpoints."""
    config = make_config(
        folder / "w", epochs=epochs, patience=epochs, min_epochs=epochs, max_failures=num_kills
    )
    dataset: DatasetVersion = take_snapshot(
        fill_tables(config, make_rows()), CONTRACT, START, END, END
    )
    calm = shell.train(config, dataset, "calm", END)
    moments = draw_moments(epochs * 2, num_kills, SEED)
    log, real = folder / "kills", shell.train_loop
    shell.train_loop = DiesAtMoments(log, moments)
    try:
        wild = shell.train(config, dataset, "wild", END)
    finally:
        shell.train_loop = real
    same = weights(config, calm) == weights(config, wild)
    return Outcome(calm, wild, same, list(kills(log, moments)))


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("ray_cluster")
def test_workers_killed_at_any_moment_cost_an_epoch_and_change_no_byte(tmp_path: Path) -> None:
    outcome = run_both(tmp_path, NUM_KILLS)
    assert len(outcome.kills) == NUM_KILLS
    assert {kill.moment.kind for kill in outcome.kills} == {"train", "write"}
    calm, wild = (each.version.evaluation.roc_auc.value for each in (outcome.calm, outcome.wild))
    assert abs(calm - wild) <= 1e-3
    assert outcome.same_bytes
    for kill in outcome.kills:
        # A checkpoint is written while the next epoch is trained, so that this one is lost as well.
        assert kill.lost < 2 + 1e-9, kill


def main() -> None:
    """Print the table of kills."""
    import ray

    ray.init(num_cpus=4, object_store_memory=200 * 2**20, include_dashboard=False)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_both(Path(folder), NUM_KILLS)
    print("| kill | where | epoch | trained | went on after | lost epochs |")
    print("|---|---|---|---|---|---|")
    for number, (moment, trained, after) in enumerate(outcome.kills, 1):
        lost = trained - after
        where = f"{moment.share:.0%} of the epoch"
        if moment.kind == "write":
            where = f"{moment.share:.0%} of checkpoint file {moment.file + 1} of 3"
        print(f"| {number} | {where} | {moment.epoch} | {trained:.2f} | {after} | {lost:.2f} |")
    calm, wild = (each.version.evaluation.roc_auc.value for each in (outcome.calm, outcome.wild))
    print(f"\nROC-AUC undisturbed {calm!r}, killed {wild!r}; same bytes: {outcome.same_bytes}")
    ray.shutdown()


if __name__ == "__main__":
    main()

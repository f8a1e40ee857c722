"""Run one contender on one set: trials on the first fold, then every fold with what was best.

Trial 0 is the default. The sampler is seeded and is told remembered losses, so that a run which
was interrupted asks the same questions again and answers them from its notes.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optuna

from benchmarks.tabular.contenders import Contender, Settings, num_known
from benchmarks.tabular.ranks import Predicted
from benchmarks.tabular.results import Record, Results, key_of, pack, unpack
from benchmarks.tabular.sets import TabularSet

SEED = 7
Say = Callable[[str], None]


class Bench:
    """One set, one contender, and what is remembered of them."""

    def __init__(
        self, tabular: TabularSet, contender: Contender, results: Results, code: str, say: Say
    ) -> None:
        """Begin; `code` digests the sources that decide the contender's results."""
        self._set, self._contender, self._results = tabular, contender, results
        self._code, self._say = code, say

    @property
    def num_known(self) -> int:
        """Rows that a contender may learn from, on the first fold."""
        return num_known(self._set.folds[0])

    def tuned(self, num_trials: int) -> tuple[Settings, float]:
        """Give the settings with the lowest stop loss on the first fold, and the CPU seconds."""
        rows = self.num_known
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=SEED))
        tried: list[tuple[float, Settings]] = []
        seconds = 0.0
        for number in range(num_trials):
            if number == 0:
                settings = self._contender.default(rows)
                record = self._trial(number, settings)
            else:
                trial = study.ask()
                settings = self._contender.suggest(trial, rows)
                record = self._trial(number, settings)
                study.tell(trial, record["loss"])
            tried.append((record["loss"], settings))
            seconds += record["cpu_s"]
        return min(tried, key=lambda pair: pair[0])[1], seconds

    def folds(self, label: str, settings: Settings, num_folds: int) -> Iterator[Record]:
        """Train and predict fold by fold."""
        for fold in self._set.folds[:num_folds]:
            key = key_of(self._set.name, self._contender.name, self._code, fold.number, settings)
            record = self._results.get(key)
            if record is None:
                began = time.process_time()
                made = self._contender.predict(self._set, fold, settings)
                seconds = time.process_time() - began
                record = self._results.add(
                    key,
                    {
                        "contender": label,
                        "fold": fold.number,
                        "settings": settings,
                        "cpu_s": seconds,
                        "rounds": made.num_rounds,
                        "scores": pack(made.scores),
                    },
                )
                self._say(f"{self._set.name}: {label}, fold {fold.number}, {seconds:.1f} CPU s")
            yield record

    def predicted(self, record: Record) -> Predicted:
        """Put a fold's scores beside its outcomes."""
        return Predicted(
            self._set.labels[self._set.folds[record["fold"]].test], unpack(record["scores"])
        )

    def _trial(self, number: int, settings: Settings) -> Record:
        fold = self._set.folds[0]
        key = key_of("trial", self._set.name, self._contender.name, self._code, settings)
        if (found := self._results.get(key)) is not None:
            return found
        began = time.process_time()
        loss = _finite(self._contender.search(self._set, fold, settings))
        seconds = time.process_time() - began
        self._say(
            f"{self._set.name}: {self._contender.name}, trial {number}, "
            f"stop loss {loss:.4f}, {seconds:.1f} CPU s"
        )
        record: dict[str, Any] = {"trial": number, "settings": settings}
        return self._results.add(key, {**record, "loss": loss, "cpu_s": seconds})


def _finite(loss: float) -> float:
    return loss if np.isfinite(loss) else 1e9

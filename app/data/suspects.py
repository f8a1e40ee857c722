"""Leave out the columns of a proposal that seem to know the outcome, and say so.

Knows a sample, guesses and the outcome; what knowing looks like is said in leakage.py, for a yes or
a no. Of several classes each of the commonest is asked about; of a number, whether it is over its
median.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Column
from app.data import leakage
from app.data.cells import cells_of_arrow
from app.data.inline import blanked, class_texts, outcome_texts, spelled
from app.data.outcomes import Outcome
from app.data.roles import Guess, Roles
from app.sections import InlineConfig

NUM_CLASSES_ASKED = 10


class Contrast(NamedTuple):
    """One yes or no about the known outcomes of a sample: 1 and 0, and what 1 stands for."""

    what: str
    labels: leakage.Labels


class Known(NamedTuple):
    """Which rows of a sample have an outcome [rows], and what can be asked about these."""

    rows: pa.Array
    contrasts: tuple[Contrast, ...]


def known_outcomes(sample: pa.Table, outcome: Outcome, inline: InlineConfig) -> Known:
    """Read the outcomes of a sample as yes and no, as many times as the task needs."""
    given = sample[outcome.source]
    label = blanked(given, inline)
    if outcome.task == "binary":
        written = outcome_texts(label, outcome.positive, outcome.negative)
        known = written.is_valid()
        labels = written.filter(known).cast(pa.int64()).to_numpy(zero_copy_only=False)
        return Known(known, (Contrast("", labels),))
    if outcome.task == "multiclass":
        written = class_texts(label, outcome.spellings)
        known = written.is_valid()
        commonest = sorted(outcome.classes, key=lambda name: -outcome.classes[name])
        ones = [(name, pc.equal(written, name)) for name in commonest[:NUM_CLASSES_ASKED]]
        return Known(known, tuple(_contrast(f"class {name}", one, known) for name, one in ones))
    column = Column(name=outcome.name, kind="number", nullable=True)
    numbers = cells_of_arrow(spelled(given, column, inline), column).array
    known = pc.is_finite(numbers).fill_null(False)
    half = (
        np.median(numbers.filter(known).to_numpy(zero_copy_only=False)) if known.true_count else 0
    )
    return Known(known, (_contrast("above the median", pc.greater(numbers, half), known),))


def leave_out_suspects(
    sample: pa.Table, guesses: list[Guess], outcome: Outcome, inline: InlineConfig, roles: Roles
) -> list[Guess]:
    """Give the guesses with suspects left out of the features, and doubts beside the others."""
    rows, contrasts = known_outcomes(sample, outcome, inline)
    sample = sample.filter(rows)
    time = next((g for g in guesses if g.column and g.name == roles.event_time), None)
    events = _cells(sample, time, inline) if time else None
    judge = _Judge(sample, contrasts, outcome, inline, events)
    return [judge.judged(guess) for guess in guesses]


def order_of(sample: pa.Table, outcome: Outcome, inline: InlineConfig) -> float | None:
    """Give the AUC of the file's order for the outcome, when it is no chance."""
    if outcome.task == "binary":
        label = blanked(sample[outcome.source], inline)
        ones = np.isin(label.to_pylist(), outcome.positive).astype(np.int64)
        return leakage.order_auc(np.arange(len(ones), dtype=float), ones)
    contrasts = known_outcomes(sample, outcome, inline).contrasts
    orders = (leakage.order_auc(np.arange(len(y), dtype=float), y) for _, y in contrasts)
    return next((order for order in orders if order is not None), None)


class _Judge(NamedTuple):
    """What columns are held against: known rows only."""

    sample: pa.Table
    contrasts: Sequence[Contrast]
    outcome: Outcome
    inline: InlineConfig
    events: pa.Array | None

    def judged(self, guess: Guess) -> Guess:
        """Leave a column out, or doubt it, or let it be."""
        if guess.column is None or guess.use != "feature":
            return guess
        values = _cells(self.sample, guess, self.inline)
        found = self._suspicion(guess.name, guess.column, values)
        if self.events is not None and guess.column.kind == "time":
            later = leakage.suspect_later(values, self.events)
            if later and not (found and found.leaves_out):
                found = leakage.Suspicion(True, later)
        if found is None:
            return guess
        if not found.leaves_out:
            return replace(guess, why=(*guess.why, found.why))
        # At the time of asking such a value is not there yet: a client need not send it.
        kept = guess.column.model_copy(update={"feature": False, "nullable": True})
        return replace(guess, use="suspect", column=kept, why=(found.why,))

    def _suspicion(self, name: str, column: Column, values: pa.Array) -> leakage.Suspicion | None:
        """Ask about every contrast; what leaves a column out counts more than a doubt."""
        doubt = None
        for what, labels in self.contrasts:
            found = leakage.suspect(name, column.kind, values, labels, self.outcome.source)
            if found is None:
                continue
            said = found if not what else replace(found, why=f"{found.why} ({what})")
            if said.leaves_out:
                return said
            doubt = doubt or said
        return doubt


def _contrast(what: str, one: pa.Array, known: pa.Array) -> Contrast:
    labels = one.filter(known).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return Contrast(what, labels)


def _cells(sample: pa.Table, guess: Guess, inline: InlineConfig) -> pa.Array:
    assert guess.column is not None
    column = guess.column.model_copy(update={"privacy": "public"})
    return cells_of_arrow(spelled(sample[guess.source], column, inline), column).array

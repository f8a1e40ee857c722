"""Let a shadow version score what others have answered: after the answer, and only in spare room.

The shadow has a queue and a thread of its own. Where the queue is full its rows are dropped and
counted; a shadow that hangs or raises costs its own figures and nobody's answer. Knows residents
and the spool; knows nothing of HTTP, Ray or SQL.
"""

import shutil
import threading
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from app.background import Rounds
from app.data.goodrows import PlainRow
from app.serving.capture import Spool
from app.serving.faults import Faults
from app.serving.residents import Bundle, Generation
from app.serving.rowpath import prediction_id, prediction_ids
from app.serving.state_messages import Shadowed
from app.serving.tablepath import checked_probabilities

# What comes within this is scored together; the hot path wakes nobody.
PAUSE_SECONDS = 0.05
MOST_TOGETHER = 256
STOP_SECONDS = 1.0
# The last room on the disk, and in the spool, is for what was answered.
RESERVE_BYTES = 256 * 2**20
SHADOWS = "shadows"


class _Offer(NamedTuple):
    rows: Sequence[PlainRow] | pa.Table
    predictions: Sequence[Sequence[Any]] | pa.Table
    """The records of what was answered, a row each."""


class Shadowing:
    """Offers what was answered to the shadow of the time. Safe to use from several threads."""

    def __init__(self, names: Sequence[str], spool: Spool, most_rows: int) -> None:
        """Take the columns of plain rows, where to keep what is scored, and how many may wait."""
        self._names, self._spool, self._most_rows = tuple(names), spool, most_rows
        self._guard = threading.Lock()
        self._shadow: _Shadow | None = None
        self._latest = 0
        self._stopped = False

    def offer(
        self,
        generation: Generation,
        rows: Sequence[PlainRow] | pa.Table,
        predictions: Sequence[Sequence[Any]] | pa.Table,
    ) -> None:
        """Offer rows that were answered, with their records. Never waits and never raises."""
        if generation.shadow is None and self._shadow is None:
            return
        shadow = self._of(generation)
        if shadow is not None:
            shadow.offer(_Offer(rows, predictions))

    def told(self, generation: Generation | None) -> Shadowed | None:
        """Say how the shadow of a generation fares; None where it has none."""
        if generation is None or generation.roles.shadow is None:
            return None
        shadow, version = self._shadow, generation.roles.shadow
        if shadow is None or shadow.version != version:
            return Shadowed(version=version, scored=0, dropped=0, failed=0, waiting=0)
        return shadow.told()

    def stop(self) -> None:
        """Take no more offers, and leave the shadow alone after a second if it hangs."""
        with self._guard:
            self._stopped = True
            shadow, self._shadow = self._shadow, None
        if shadow is not None:
            shadow.stop(STOP_SECONDS)

    def _of(self, generation: Generation) -> "_Shadow | None":
        """Give the shadow of a generation; another version begins anew, with another thread."""
        version, bundle = generation.roles.shadow, generation.shadow
        with self._guard:
            now = self._shadow
            if self._stopped or (now is not None and now.version == version):
                return now
            # A request that began before a switch must not switch back.
            if generation.roles.generation < self._latest:
                return None
            self._latest = generation.roles.generation
            if now is not None:
                # Not waited for: it may hang.
                now.stop(0.0)
            self._shadow = None
            if version is not None and bundle is not None:
                scoring = _Scoring(version, bundle, self._names, self._spool, generation.faults)
                self._shadow = _Shadow(scoring, self._most_rows)
            return self._shadow


class _Shadow:
    """One shadow version: its queue, its thread, its counts."""

    def __init__(self, scoring: "_Scoring", most_rows: int) -> None:
        self.version = scoring.version
        self._scoring, self._most_rows = scoring, most_rows
        self._guard = threading.Lock()
        self._waiting: deque[_Offer] = deque()
        self._num_waiting = self._scored = self._dropped = self._failed = 0
        self._rounds = Rounds("shadow", self._round, PAUSE_SECONDS)
        self._rounds.start()

    def offer(self, offer: _Offer) -> None:
        number = len(offer.rows)
        with self._guard:
            # What is being scored counts as waiting: it is in memory too.
            if self._rounds.stopping() or self._num_waiting + number > self._most_rows:
                self._dropped += number
                return
            self._num_waiting += number
            self._waiting.append(offer)

    def told(self) -> Shadowed:
        with self._guard:
            return Shadowed(
                version=self.version,
                scored=self._scored,
                dropped=self._dropped,
                failed=self._failed,
                waiting=self._num_waiting,
            )

    def stop(self, seconds: float) -> None:
        self._rounds.stop(seconds)
        with self._guard:
            self._dropped += sum(len(offer.rows) for offer in self._waiting)
            self._waiting.clear()

    def _round(self) -> float:
        while not self._rounds.stopping() and (offers := self._take()):
            number = sum(len(offer.rows) for offer in offers)
            became = self._scoring.score(offers)
            with self._guard:
                self._num_waiting -= number
                self._scored += number if became == "scored" else 0
                self._dropped += number if became == "dropped" else 0
                self._failed += number if became == "failed" else 0
        return PAUSE_SECONDS

    def _take(self) -> list[_Offer]:
        """Take offers of plain rows that can be scored together, or one table."""
        taken: list[_Offer] = []
        room = MOST_TOGETHER
        with self._guard:
            while self._waiting and room > 0:
                if taken and isinstance(self._waiting[0].rows, pa.Table):
                    break
                taken.append(self._waiting.popleft())
                room -= len(taken[-1].rows)
                if isinstance(taken[-1].rows, pa.Table):
                    break
        return taken


class _Scoring(NamedTuple):
    """What a shadow scores with, and where its figures go."""

    version: str
    bundle: Bundle
    names: Sequence[str]
    spool: Spool
    faults: Faults

    def score(self, offers: Sequence[_Offer]) -> Literal["scored", "dropped", "failed"]:
        """Score offers of one kind and keep the figures; tell what became of them."""
        try:
            if self.spool.is_short or self._free_bytes() < RESERVE_BYTES:
                return "dropped"
            if isinstance(offers[0].rows, pa.Table):
                self._score_table(offers[0].rows, offers[0].predictions)
            else:
                self._score_rows(offers)
        # A shadow can raise anything, and its figures are the first that a full disk may cost.
        except Exception as error:
            self.faults.note(self.version, sum(len(offer.rows) for offer in offers), error)
            return "failed"
        return "scored"

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.spool.folder).free

    def _score_rows(self, offers: Sequence[_Offer]) -> None:
        rows = [row for offer in offers for row in offer.rows]
        given = iter(self._checked(self.bundle.predict_rows(rows, self.names), len(rows)))
        kept = [
            shadow_record(prediction, self.version, probability)
            for offer in offers
            for prediction, probability in zip(
                offer.predictions, islice(given, len(offer.rows)), strict=True
            )
        ]
        self.spool.append_values({SHADOWS: kept})

    def _score_table(self, rows: pa.Table, predictions: pa.Table) -> None:
        given = self._checked(self.bundle.predict(rows), rows.num_rows)
        keys = predictions["idempotency_key"].to_pylist()
        columns = {name: predictions[name] for name in predictions.column_names}
        del columns["arm"], columns["propensity"]
        columns["prediction_id"] = prediction_ids(self.version, keys)
        columns["version"] = pa.repeat(self.version, rows.num_rows)
        columns["probability"] = pa.array(given, pa.float64())
        self.spool.append({SHADOWS: pa.table(columns)})

    def _checked(self, probabilities: Any, number: int) -> list[float]:
        given: list[float] = checked_probabilities(probabilities).tolist()
        if len(given) != number:
            raise ArithmeticError(f"expected {number} probabilities, got {len(given)}")
        return given


def shadow_record(prediction: Sequence[Any], version: str, probability: float) -> list[Any]:
    """Write what a shadow says of a row beside the record of what was answered; see schemas."""
    _, key, row_id, entity, _, generation, _, _, _, asked, at, replica = prediction
    name = prediction_id(version, key)
    return [name, key, row_id, entity, version, generation, probability, asked, at, replica]

"""Answer requests: check rows, score them with the resident champion, keep them, then answer.

Knows rows, versions, the spool and a clock; knows nothing of HTTP, Ray or SQL. Safe to call from
several threads. What a client did wrong is raised as Refused, with what to change.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any

import pyarrow as pa

from app.config import Config
from app.contracts.times import micros_of
from app.contracts.windows import LIVE_SOURCE
from app.data.forgetting import refuse_checked
from app.data.goodrows import PlainRow
from app.data.online import OnlineStore
from app.data.rowwise import FEW_ROWS
from app.data.tables import Tables
from app.data.validation import Validated, validate, validate_rows
from app.security.privacy import Pseudonymiser
from app.security.tombstones import Tombstones
from app.serving.arrivals import arrive, arrive_table, new_id
from app.serving.arrivingcolumns import with_nullable
from app.serving.capture import Spool
from app.serving.dealing import deal_rows, deal_table
from app.serving.guarding import Guard
from app.serving.keeping import keep_outcomes, keep_tables, keep_values, said_of
from app.serving.labelling import labels_table, read_labels
from app.serving.lookups import RowWindows, refuse_unfilled, with_windows
from app.serving.messages import (
    LabelsRequest,
    PredictRequest,
    Readiness,
    Refused,
    Rejected,
)
from app.serving.residents import Generation, Residents
from app.serving.retries import new_request_id
from app.serving.rowpath import RowPath
from app.serving.shadowing import Shadowing
from app.serving.tablepath import (
    Made,
    Scored,
    Turn,
    none_scored,
    predictions_table,
    rejected_rows,
    row_keys,
)

SOURCE = LIVE_SOURCE


class ClockUnknown(RuntimeError):
    """The time cannot be told at this moment."""


@dataclass(frozen=True)
class Predictor:
    """What one replica answers with. Whoever made its parts starts and stops them."""

    config: Config
    replica: str
    residents: Residents
    spool: Spool
    tables: Tables
    pseudonymiser: Pseudonymiser
    clock: Callable[[], datetime]
    erased: Callable[[], Tombstones]
    online: OnlineStore | None = None

    def predict(self, request: PredictRequest) -> dict[str, Any]:
        """Score the rows that are acceptable; the answer is a PredictResponse.

        Accepted rows, their predictions and rejected rows are in the spool when this returns. A row
        about an erased subject is rejected, and only that it came is kept: who asked to be
        forgotten is neither scored nor logged. No prediction lacks its record, but where the policy
        is to answer all the same: then the answer says so, and the rows are counted as lost.
        Raises Refused: 413 for too many rows, 422 when no row is acceptable, 503 without a champion
        or room to keep rows.
        """
        return self.predict_together([request])[0] or self.predict_by_column(request)

    def predict_together(self, requests: Sequence[PredictRequest]) -> list[dict[str, Any] | None]:
        """Score requests that wait together as one batch, with one record of it in the spool.

        A request that must go the longer way has None: ask `predict_by_column`. What is raised, see
        `predict`, holds for all of them.
        """
        return self._few(requests, self._generation(), self._now())

    @property
    def is_prompt(self) -> bool:
        """Whether scoring a few rows waits for nothing but the processor: no SQL, no lookup."""
        return self.config.clock == "wall" and self.online is None

    def _few(
        self, requests: Sequence[PredictRequest], generation: Generation, at: datetime
    ) -> list[dict[str, Any] | None]:
        """Score the rows of those requests that nothing is wrong with, without a table."""
        read = [self._read(request, at, generation) for request in requests]
        served = [(r, few) for r, few in zip(requests, read, strict=True) if few is not None]
        if not served:
            return [None] * len(requests)
        # The windows' values are logged too: what was used can be used again.
        read_rows = [row for _, few in served for row in few]
        together = self._windows.complete(read_rows, micros_of(at))
        keys = [k for r, few in served for k in r.idempotency_keys or self._row_path.ids(few)]
        dealt, stamps = deal_rows(generation, self._row_path, together, keys, at)
        records, predictions = self._row_path.write(
            together, dealt, keys, generation, micros_of(at), stamps
        )
        is_kept = keep_values(self.spool, records)
        if is_kept:
            self.shadowing.offer(generation, together, records["predictions"])
        left, said = iter(predictions), said_of(is_kept)
        answers = (
            self._answer(r, generation, [*islice(left, len(few))], []) | said for r, few in served
        )
        return [None if few is None else next(answers) for few in read]

    def _read(
        self, request: PredictRequest, at: datetime, generation: Generation
    ) -> list[PlainRow] | None:
        """Read a request's rows; None when they must go the longer way, as odd ones must."""
        if len(request.rows) > FEW_ROWS:
            return None
        rows = self._row_path.read(self._arrived(request, at), self.erased())
        return None if rows and self._guard.finds(generation, rows) else rows

    def _arrived(self, request: PredictRequest, at: datetime) -> Sequence[object]:
        return arrive(request.rows, self.config.contract, at, new_id, request.idempotency_keys)

    def predict_by_column(self, request: PredictRequest) -> dict[str, Any]:
        """Do as `predict` does, by the way for any number of any rows."""
        self._refuse_too_many("rows", len(request.rows))
        turn = Turn(self._generation(), self._now(), request.idempotency_keys)
        rows, contract = self._arrived(request, turn.at), self.config.contract
        checked = validate_rows(rows, contract, pseudonymiser=self.pseudonymiser)
        scored = self._score(checked, turn)
        answer = self._answer(request, turn.generation, scored.answered(), scored.rejected)
        return answer | said_of(scored.is_kept)

    def predict_table(
        self,
        table: pa.Table,
        keys: Sequence[str] | None = None,
        *,
        whole: bool = False,
        version: str | None = None,
    ) -> Scored:
        """Score the rows of a table that are acceptable, as `predict` does, by column.

        The table has columns of the contract; nullable and generated ones may be absent. `whole`
        refuses the request with 400 when a row is not acceptable: the refused rows are kept, the
        others are neither scored nor kept, they have not come in. With a version nothing else
        answers: Refused with 404 when it is not the champion. Otherwise raises as `predict` does.
        """
        self._refuse_too_many("rows", table.num_rows)
        alone = version is not None
        turn = Turn(self._generation(version), self._now(), keys, whole, alone)
        contract = self.config.contract
        table = with_nullable(arrive_table(table, contract, turn.at, new_id, keys), contract)
        checked = validate(table, contract, pseudonymiser=self.pseudonymiser)
        return self._score(checked, turn)

    def _score(self, checked: Validated, turn: Turn) -> Scored:
        """Score judged rows and keep what became of all of them."""
        contract, at = self.config.contract, turn.at
        checked = refuse_checked(checked, contract, self.erased())
        guarded = self._guard.sort(turn.generation, checked)
        checked = guarded.checked
        rejected = rejected_rows(checked.quarantined)
        kept = {}
        if rejected:
            kept["quarantine"] = self.tables.complete("quarantine", checked.quarantined, at, SOURCE)
        num_accepted = checked.accepted.num_rows
        if num_accepted == 0 or (turn.whole and rejected):
            keep_tables(self.spool, kept)
            raise none_scored(num_accepted + guarded.num_left, rejected, turn.whole)
        accepted = with_windows(checked.accepted, contract, self.online, at)
        keys = row_keys(turn.keys, checked.accepted[contract.id], checked.positions)
        seen = guarded.for_model(accepted)
        dealt, stamps = deal_table(turn, contract.entity, seen, keys)
        events = self.tables.complete("events", accepted, at, SOURCE)
        made = Made(turn.generation, at, self.replica, stamps)
        predictions = predictions_table(contract, events, dealt, keys, made)
        kept |= {"events": events, "predictions": predictions}
        is_kept = keep_tables(self.spool, kept)
        if is_kept:
            self.shadowing.offer(turn.generation, seen, predictions)
        is_mixed, roles = stamps is not None, turn.generation.roles
        return Scored(roles, predictions, rejected, guarded.flags, is_mixed, is_kept)

    def _answer(
        self,
        request: PredictRequest,
        generation: Generation,
        predictions: list[dict[str, Any]],
        rejected: list[Rejected],
    ) -> dict[str, Any]:
        return {
            "model": self.config.name,
            "version": generation.roles.champion,
            "generation": generation.roles.generation,
            "request_id": request.request_id or new_request_id(),
            "predictions": predictions,
            "rejected": [item.model_dump() for item in rejected],
        }

    def label(self, request: LabelsRequest) -> dict[str, Any]:
        """Log the outcomes that are acceptable; the answer is a LabelsResponse.

        Raises Refused: 413 for too many, 422 when none is acceptable, 503 without room for them.
        """
        self._refuse_too_many("labels", len(request.labels))
        now = self._now()
        accepted, rejected = read_labels(request.labels, now, self.erased())
        if not accepted:
            got = f"none of {len(request.labels)} labels is acceptable"
            raise Refused(422, "labels", got, "mend the labels, see rejected").because(rejected)
        keep_outcomes(self.spool, {"labels": labels_table(accepted, now, SOURCE)})
        return {
            "model": self.config.name,
            "accepted": len(accepted),
            "rejected": [item.model_dump() for item in rejected],
        }

    def judge(self, rows: Sequence[object]) -> tuple[pa.Table, list[Rejected]]:
        """Judge rows as `predict` does and look up their windows, but keep nothing of them.

        Raises Refused: 422 when no row is acceptable, 503 where windows cannot be looked up.
        """
        at, contract = self._now(), self.config.contract
        arrived = arrive(rows, contract, at, new_id)
        checked = validate_rows(arrived, contract, pseudonymiser=self.pseudonymiser)
        checked = refuse_checked(checked, contract, self.erased())
        rejected = rejected_rows(checked.quarantined)
        if checked.accepted.num_rows == 0:
            raise none_scored(0, rejected, whole=False)
        return with_windows(checked.accepted, contract, self.online, at), rejected

    def readiness(self) -> Readiness:
        """Say who answers. Raises Refused with 503 while nobody does."""
        generation = self._generation()
        if self.online is not None:
            refuse_unfilled(self.online)
        return Readiness(
            model=self.config.name,
            version=str(generation.roles.champion),
            generation=generation.roles.generation,
        )

    @cached_property
    def _row_path(self) -> RowPath:
        return RowPath(self.config.contract, self.replica, self.pseudonymiser)

    @cached_property
    def _windows(self) -> RowWindows:
        return RowWindows(self.config.contract, self.online)

    @cached_property
    def shadowing(self) -> Shadowing:
        """What the shadow version, if there is one, gets to see."""
        most = self.config.serving.shadow_max_rows
        return Shadowing(self._row_path.names, self.spool, most)

    @cached_property
    def _guard(self) -> Guard:
        return Guard(self.config.contract, self.config.serving.guard, self.pseudonymiser)

    def _generation(self, version: str | None = None) -> Generation:
        """Take one reference to the generation: it stays the same for the whole request."""
        generation = self.residents.current
        if generation is None or generation.champion is None:
            told = "; ".join(f"{key[:12]}: {why}" for key, why in self.residents.problems.items())
            got = f"no champion is resident yet{f' ({told})' if told else ''}"
            change = "train and promote a first version, or try again later"
            raise Refused(503, "model", got, change)
        if version not in (None, generation.roles.champion):
            got, change = f"version {version[:80]}", "ask for the champion, or for no version"
            raise Refused(404, "version", got, change)
        return generation

    def _now(self) -> datetime:
        try:
            return self.clock()
        except ClockUnknown as error:
            raise Refused(503, "clock", str(error), "try again later") from error

    def _refuse_too_many(self, where: str, number: int) -> None:
        most = self.config.serving.max_rows_per_request
        if number > most:
            got, change = f"{number}, more than {most}", "send several smaller requests"
            raise Refused(413, where, got, change)

"""Answer requests: check rows, score them with the resident champion, keep them, then answer.

Knows rows, versions, the spool and a clock; knows nothing of HTTP, Ray or SQL. Safe to call from
several threads. What a client did wrong is raised as Refused, with what to change.
"""

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.config import Config
from app.contracts.times import micros_in, micros_of
from app.contracts.windows import LIVE_SOURCE
from app.data.forgetting import refuse_checked
from app.data.goodrows import PlainRow
from app.data.online import OnlineStore
from app.data.rowwise import FEW_ROWS
from app.data.storefile import STORE_ERRORS
from app.data.tables import Tables
from app.data.validation import validate_rows
from app.security.privacy import Pseudonymiser
from app.security.tombstones import Tombstones
from app.serving.arrivals import arrive
from app.serving.capture import Spool, SpoolRefused
from app.serving.dealing import deal_rows, deal_table, name_others
from app.serving.labelling import labels_table, read_label
from app.serving.messages import (
    Label,
    LabelsRequest,
    PredictRequest,
    Readiness,
    Refused,
    Rejected,
)
from app.serving.residents import Generation, Residents
from app.serving.rowpath import RowPath
from app.serving.tablepath import (
    Made,
    predictions_table,
    rejected_rows,
    row_keys,
)

logger = logging.getLogger(__name__)
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
        forgotten is neither scored nor logged, and no prediction lacks its record.
        Raises Refused: 413 for too many rows, 422 when no row is acceptable, 503 without a champion
        or room to keep rows.
        """
        self._refuse_too_many("rows", len(request.rows))
        generation = self._generation()
        at = self._now()
        return self._few([request], generation, at)[0] or self._predict_table(
            request, generation, at
        )

    def predict_together(self, requests: Sequence[PredictRequest]) -> list[dict[str, Any] | None]:
        """Score requests that wait together as one batch, with one record of it in the spool.

        A request that must go the longer way has None: ask `predict`. What is raised, see there,
        holds for all of them.
        """
        return self._few(requests, self._generation(), self._now())

    @property
    def is_prompt(self) -> bool:
        """Whether scoring a few rows waits for nothing but the processor: no SQL, no lookup."""
        return self.config.clock == "wall" and self._row_path.fits

    def _few(
        self,
        requests: Sequence[PredictRequest],
        generation: Generation,
        at: datetime,
    ) -> list[dict[str, Any] | None]:
        """Score the rows of those requests that nothing is wrong with, without a table."""
        read = [self._read(request, at) for request in requests]
        served = [(r, few) for r, few in zip(requests, read, strict=True) if few is not None]
        if not served:
            return [None] * len(requests)
        together = [row for _, few in served for row in few]
        keys = [k for r, few in served for k in r.idempotency_keys or self._row_path.ids(few)]
        faults = self.residents.faults
        dealt, stamps = deal_rows(generation, self._row_path, together, keys, at, faults)
        records, predictions = self._row_path.write(
            together, dealt, keys, generation, micros_of(at), stamps
        )
        if stamps is not None:
            name_others(predictions, stamps, generation.roles.champion)
        self._keep(lambda: self.spool.append_values(records))
        left = iter(predictions)
        answers = (self._answer(r, generation, [*islice(left, len(few))], []) for r, few in served)
        return [None if few is None else next(answers) for few in read]

    def _read(self, request: PredictRequest, at: datetime) -> list[PlainRow] | None:
        """Read a request's rows; None when they must go the longer way."""
        if len(request.rows) > FEW_ROWS:
            return None
        return self._row_path.read(self._arrived(request, at), self.erased())

    def _arrived(self, request: PredictRequest, at: datetime) -> Sequence[object]:
        return arrive(request.rows, self.config.contract, at, _new_id, request.idempotency_keys)

    def _predict_table(
        self,
        request: PredictRequest,
        generation: Generation,
        at: datetime,
    ) -> dict[str, Any]:
        """Judge and score rows by column: the way for any number of any rows."""
        contract = self.config.contract
        rows = self._arrived(request, at)
        checked = validate_rows(
            rows, contract, pseudonymiser=self.pseudonymiser, good=self._row_path.good
        )
        checked = refuse_checked(checked, contract, self.erased())
        rejected = rejected_rows(checked.quarantined)
        kept = {"quarantine": self.tables.complete("quarantine", checked.quarantined, at, SOURCE)}
        if checked.accepted.num_rows == 0:
            self._keep(lambda: self.spool.append(kept))
            got = f"none of {len(request.rows)} rows is acceptable"
            raise Refused(422, "rows", got, "mend the rows, see rejected").because(rejected)
        # The windows' values are logged with the row: what was used can be used again.
        accepted = self._with_windows(checked.accepted, at)
        keys = row_keys(request, checked.accepted[contract.id], checked.positions)
        faults = self.residents.faults
        dealt, stamps = deal_table(generation, contract.entity, accepted, keys, at, faults)
        events = self.tables.complete("events", accepted, at, SOURCE)
        made = Made(generation, at, self.replica, stamps)
        predictions = predictions_table(contract, events, dealt, keys, made)
        kept |= {"events": events, "predictions": predictions}
        self._keep(lambda: self.spool.append(kept))
        answered = predictions.select(["row_id", "prediction_id", "probability"]).to_pylist()
        if stamps is not None:
            name_others(answered, stamps, generation.roles.champion)
        return self._answer(request, generation, answered, rejected)

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
            "request_id": request.request_id or uuid.uuid4().hex,
            "predictions": predictions,
            "rejected": [item.model_dump() for item in rejected],
        }

    def label(self, request: LabelsRequest) -> dict[str, Any]:
        """Log the outcomes that are acceptable; the answer is a LabelsResponse.

        Raises Refused: 413 for too many, 422 when none is acceptable, 503 without room to keep
        them.
        """
        self._refuse_too_many("labels", len(request.labels))
        now = self._now()
        accepted: list[Label] = []
        rejected: list[Rejected] = []
        for position, item in enumerate(request.labels):
            reason, label = read_label(item, now, self.erased())
            if label is not None:
                accepted.append(label)
            else:
                rejected.append(Rejected(row=position, reasons=[reason]))
        if not accepted:
            got = f"none of {len(request.labels)} labels is acceptable"
            raise Refused(422, "labels", got, "mend the labels, see rejected").because(rejected)
        kept = {"labels": labels_table(accepted, now, SOURCE)}
        self._keep(lambda: self.spool.append(kept))
        return {
            "model": self.config.name,
            "accepted": len(accepted),
            "rejected": [item.model_dump() for item in rejected],
        }

    def readiness(self) -> Readiness:
        """Say who answers. Raises Refused with 503 while nobody does."""
        generation = self._generation()
        if self.online is not None:
            self._refuse_unfilled(self.online)
        return Readiness(
            model=self.config.name,
            version=str(generation.roles.champion),
            generation=generation.roles.generation,
        )

    @cached_property
    def _row_path(self) -> RowPath:
        return RowPath(self.config.contract, self.replica, self.pseudonymiser)

    def _generation(self) -> Generation:
        """Take one reference to the generation: it stays the same for the whole request."""
        generation = self.residents.current
        if generation is None or generation.champion is None:
            problems = "; ".join(
                f"{key[:12]}: {why}" for key, why in self.residents.problems.items()
            )
            got = f"no champion is resident yet{f' ({problems})' if problems else ''}"
            raise Refused(
                503, "model", got, "train and promote a first version, or try again later"
            )
        return generation

    def _with_windows(self, accepted: pa.Table, at: datetime) -> pa.Table:
        """Look up the windows as of now, or as of the prediction time where that is past."""
        if self.online is None:
            return accepted
        contract = self.config.contract
        lead = pa.scalar(contract.lead, pa.duration("us"))
        time = micros_in(pc.subtract(accepted[contract.event_time], lead)).to_numpy()
        try:
            self._refuse_unfilled(self.online)
            values = self.online.values(accepted, np.minimum(time, micros_of(at)))
        except STORE_ERRORS as error:
            logger.exception("the online store does not answer")
            got = "the window features cannot be looked up"
            raise Refused(503, "windows", got, "try again later") from error
        for name in values.column_names:
            accepted = accepted.append_column(name, values[name])
        return accepted

    def _refuse_unfilled(self, online: OnlineStore) -> None:
        if not online.filled:
            raise Refused(503, "windows", "history is being read", "try again in a minute")

    def _now(self) -> datetime:
        try:
            return self.clock()
        except ClockUnknown as error:
            raise Refused(503, "clock", str(error), "try again later") from error

    def _refuse_too_many(self, where: str, number: int) -> None:
        most = self.config.serving.max_rows_per_request
        if number > most:
            raise Refused(
                413, where, f"{number}, more than {most}", "send several smaller requests"
            )

    def _keep(self, append: Callable[[], None]) -> None:
        try:
            append()
        except SpoolRefused as error:
            # The cause names a path of the server: it is for the log, not for the client.
            raise Refused(503, "spool", "the request cannot be kept", "try again later") from error


def _new_id() -> str:
    return f"r_{uuid.uuid4().hex}"

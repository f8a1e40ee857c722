"""Answer a few good rows value by value: no table is made before the answer is out.

For one row an Arrow table costs more than the model. What is not plainly good, or needs tables, is
left to the caller's longer way, which comes to the same answer and the same records. Knows the
contract and versions; knows nothing of HTTP, Ray, SQL, files or time.
"""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa

from app.contracts.rows import Contract
from app.contracts.times import MICROSECOND
from app.contracts.windows import LIVE_SOURCE
from app.data.forgetting import identity_columns
from app.data.goodrows import GoodRows, PlainRow
from app.security.privacy import Pseudonymiser
from app.security.tombstones import Tombstones
from app.serving.arms import Stamp
from app.serving.residents import Bundle, Generation

NAME_BYTES = 16
Records = dict[str, list[list[Any]]]


class RowPath:
    """Scores good rows of one model; made once, safe to call from several threads."""

    def __init__(self, contract: Contract, replica: str, pseudonymiser: Pseudonymiser) -> None:
        """Look up where each role stands; a row that is scored ends with its windows."""
        self._good = GoodRows(contract)
        self.names = tuple(contract.complete_schema.names)
        places = {name: place for place, name in enumerate(self.names)}
        self._id, self._time = places[contract.id], places[contract.event_time]
        self._entity = places[contract.entity] if contract.entity else None
        self._personal = [places[name] for name in contract.personal]
        self._identities = [places[name] for name in identity_columns(contract)]
        self._lead = contract.lead // MICROSECOND
        self._replica, self._pseudonymiser = replica, pseudonymiser

    def read(self, rows: Sequence[object], erased: Tombstones) -> list[PlainRow] | None:
        """Read rows, protected; None when they must go the longer way."""
        read = self._good.values(rows)
        if read is None:
            return None
        for row in read:
            for place in self._personal:
                if row[place] is not None:
                    row[place] = self._pseudonymiser.one(row[place])
            if erased and self._is_erased(row, erased):
                return None
        return read

    def score(self, bundle: Bundle, rows: list[PlainRow]) -> list[float]:
        """Give a probability a row. Raises ArithmeticError for what is no probability."""
        probabilities: list[float] = bundle.predict_rows(rows, self.names).tolist()
        for probability in probabilities:
            if not 0.0 <= probability <= 1.0:
                raise ArithmeticError("the version gave something that is no probability")
        return probabilities

    def ids(self, rows: Sequence[PlainRow]) -> list[str]:
        """Give the rows' ids, which are their keys where a client sends none."""
        return [row[self._id] for row in rows]

    def entities(self, rows: Sequence[PlainRow]) -> list[str | None]:
        """Give who each row is about; None where the row does not say."""
        return [None if self._entity is None else row[self._entity] for row in rows]

    def write(
        self,
        rows: list[PlainRow],
        probabilities: Iterable[float],
        keys: Sequence[str],
        generation: Generation,
        at: int,
        stamps: Sequence[Stamp] | None = None,
    ) -> tuple[Records, list[dict[str, Any]]]:
        """Give what to keep, by table, and what to answer, a row each.

        `at` is microseconds since 1970. Without stamps the champion answered all of them.
        """
        made = repeat(generation.alone, len(rows)) if stamps is None else stamps
        events, predictions, answers = [], [], []
        for row, probability, key, stamp in zip(rows, probabilities, keys, made, strict=True):
            row_id = row[self._id]
            name = prediction_id(stamp.version, key)
            asked = row[self._time] - self._lead
            entity = None if self._entity is None else row[self._entity]
            events.append([*row, asked, LIVE_SOURCE, at])
            end = (probability, asked, at, self._replica)
            predictions.append([name, key, row_id, entity, *stamp, *end])
            answers.append({"row_id": row_id, "prediction_id": name, "probability": probability})
        if stamps is not None:
            versions = [stamp.version for stamp in stamps]
            name_others(answers, versions, generation.roles.champion)
        return {"events": events, "predictions": predictions}, answers

    def _is_erased(self, row: PlainRow, erased: Tombstones) -> bool:
        named = (row[place] for place in self._identities)
        return erased.is_row(row[self._id]) or any(
            erased.is_subject(value) for value in named if value is not None
        )


def name_others(
    answers: Sequence[dict[str, Any]], versions: Sequence[str], champion: str | None
) -> None:
    """Name the version in answers that another one than the champion gave; none where all are."""
    for answer, version in zip(answers, versions, strict=bool(versions)):
        if version != champion:
            answer["version"] = version


def prediction_id(version: str, key: str) -> str:
    """Name a prediction: a repeated key answered by the same version gets the same name.

    >>> prediction_id("v1", "row-7") == prediction_id("v1", "row-7")
    True
    >>> prediction_id("v1", "row-7") == prediction_id("v2", "row-7")
    False
    """
    return hashlib.blake2b(f"{version}\0{key}".encode(), digest_size=NAME_BYTES).hexdigest()


def prediction_ids(version: str, keys: Sequence[str]) -> pa.StringArray:
    """Name the predictions of many rows by one version as prediction_id does each.

    >>> prediction_ids("v1", ["row-7"])[0].as_py() == prediction_id("v1", "row-7")
    True
    """
    begin = hashlib.blake2b(f"{version}\0".encode(), digest_size=NAME_BYTES).copy
    digests = []
    for key in keys:
        name = begin()
        name.update(key.encode())
        digests.append(name.digest())
    # All names are of one length, and are written one behind the other.
    ends = np.arange(len(digests) + 1, dtype=np.int32) * (2 * NAME_BYTES)
    letters = b"".join(digests).hex().encode()
    return pa.StringArray.from_buffers(len(digests), pa.py_buffer(ends), pa.py_buffer(letters))

"""Try a configuration out on the file that it was proposed for: what would an ingest make of it?

Knows blocks and a configuration; knows nothing of tables. The judging is that of an ingest.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from pandas.util import hash_array
from pydantic import SecretBytes

from app.config import Config
from app.data.files import Rows
from app.data.inline import Inline
from app.data.repeats import REPEATED
from app.data.survey import Survey
from app.data.validation import validate
from app.sections import InlineConfig

MAX_COMPARED = 20_000_000
EXAMPLE_ROWS = 500


def _key() -> SecretBytes:
    """Give a key for ids that are thrown away: they need no secret."""
    return SecretBytes(b"a key for trials only, no secret")


@dataclass(frozen=True)
class Trial:
    """What would become of the rows of a file."""

    num_in: int
    num_accepted: int
    num_repeated: int
    """Acceptable rows whose id stands earlier in the file already."""
    reasons: tuple[tuple[str, int], ...]
    """Why rows would be quarantined, the commonest first, with their numbers."""


def try_out(config: Config, survey: Survey, at: datetime) -> Trial:
    """Judge every row of the file as an ingest would."""
    inline = Inline(config.contract, config.source.inline or InlineConfig(), _key, at)
    num_in = num_accepted = 0
    reasons: Counter[str] = Counter()
    ids: list[np.ndarray] = []
    for block in survey.blocks():
        positions = num_in + np.arange(block.num_rows, dtype=np.int64)
        rows = inline.rows(Rows(block, positions, [], ""), str(survey.path))
        judged = validate(rows.table, config.contract)
        num_in += block.num_rows
        num_accepted += judged.accepted.num_rows
        for found in judged.quarantined["reasons"].to_pylist():
            reasons.update({_general(reason) for reason in found})
        if num_in <= MAX_COMPARED:
            ids.append(_hashes(judged.accepted[config.contract.id]))
    seen = np.concatenate(ids) if ids else np.empty(0)
    num_again = len(seen) - len(np.unique(seen))
    # Within a block validation has found them already.
    num_repeated = num_again + reasons.pop(f"{config.contract.id} {REPEATED}", 0)
    num_in += survey.num_broken
    if survey.num_broken:
        reasons["row has too few or too many cells"] = survey.num_broken
    return Trial(num_in, num_accepted - num_again, num_repeated, tuple(reasons.most_common()))


def example_row(config: Config, survey: Survey, at: datetime) -> dict[str, object]:
    """Give a row of the file as a client would send it, without what a client need not send.

    Personal values and suspects stay out. Empty when no row of the sample is acceptable.
    """
    inline = Inline(config.contract, config.source.inline or InlineConfig(), _key, at)
    sample = survey.sample.slice(0, EXAMPLE_ROWS)
    positions = np.arange(sample.num_rows, dtype=np.int64)
    rows = inline.rows(Rows(sample, positions, [], ""), str(survey.path))
    accepted = validate(rows.table, config.contract).accepted.slice(0, 1).to_pylist()
    if not accepted:
        return {}
    return {
        column.name: _json_value(accepted[0][column.name])
        for column in config.contract.columns
        if not column.generated and (column.feature or not column.nullable)
    }


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _hashes(ids: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(hash_array(np.asarray(ids.to_pylist(), dtype=object)))


def _general(reason: str) -> str:
    """Leave off the value, so that reasons can be counted."""
    return reason.partition(", got ")[0]

"""What one prediction was made with: enough to make it again, and to check that it is the same.

Knows names and digests; knows nothing of tables, ledgers or who asks.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime

import orjson
from pydantic import AwareDatetime, Field

from app.contracts.rows import Frozen


class Receipt(Frozen):
    """What one prediction was made with."""

    prediction_id: str
    row_id: str
    model: str
    version: str = Field(description="Digest of the model version's artifact.")
    generation: int = Field(description="Of the roles that it was answered under.")
    decision: str | None = Field(description="The decision that made this generation.")
    arm: str
    propensity: float = Field(ge=0, le=1, description="The chance that the row had of this arm.")
    probability: float = Field(ge=0, le=1, description="As logged, not rounded.")
    prediction_time: AwareDatetime
    served_at: AwareDatetime
    replica: str
    inputs_digest: str | None = Field(
        description="SHA-256 of the row as logged, see `digest_of_inputs`; null without the row."
    )
    run: str = Field(description="The training run that made the version.")
    data_digest: str = Field(description="Of the rows that it was trained on.")
    code_version: str
    config_digest: str
    trained_until: AwareDatetime


def digest_of_inputs(row: Mapping[str, object]) -> str:
    """Digest a row's values: SHA-256 of its JSON, names sorted, times in UTC to the microsecond.

    >>> digest_of_inputs({"b": 1.0, "a": None}) == digest_of_inputs({"a": None, "b": 1.0})
    True
    """
    content = orjson.dumps(row, _plain, orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME)
    return hashlib.sha256(content).hexdigest()


def _plain(value: object) -> str:
    assert isinstance(value, datetime), "a row holds numbers, texts and times"
    return value.isoformat(timespec="microseconds")

"""Keep the records of a request, or do with it what the policy says.

Knows the spool and refusals; knows nothing of what records mean.
"""

from collections.abc import Mapping, Sequence, Sized
from typing import Any

import pyarrow as pa

from app.serving.capture import Spool, SpoolRefused
from app.serving.messages import Refused


def keep_values(spool: Spool, records: Mapping[str, Sequence[Sequence[Any]]]) -> bool:
    """Keep a few rows by table, as plain values. See `keep_tables`."""
    try:
        spool.append_values(records)
    except SpoolRefused as refused:
        return _lost(spool, records, refused)
    return True


def keep_tables(spool: Spool, records: Mapping[str, pa.Table]) -> bool:
    """Keep rows by table; False where they are lost and the request is to be answered anyway.

    Raises Refused with 503 where nothing is answered that is not kept.
    """
    try:
        spool.append(records)
    except SpoolRefused as refused:
        return _lost(spool, records, refused)
    return True


def keep_outcomes(spool: Spool, records: Mapping[str, pa.Table]) -> None:
    """Keep outcomes. Raises Refused with 503: whoever sends them can send them again."""
    try:
        spool.append(records)
    except SpoolRefused as refused:
        raise _unkept() from refused


def said_of(is_kept: bool) -> dict[str, bool]:
    """Say in an answer that its records were not kept; where they were nothing is said."""
    return {} if is_kept else {"kept": False}


def _lost(spool: Spool, records: Mapping[str, Sized], refused: SpoolRefused) -> bool:
    if not spool.lose(records, refused):
        raise _unkept() from refused
    return False


def _unkept() -> Refused:
    # What caused it names a path of the server: it is for the log, not for the client.
    return Refused(503, "spool", "the request cannot be kept", "try again later")

"""Look up the windows of rows that are to be scored, or say that they cannot be.

Knows the online store and the contract; knows nothing of HTTP, models or what a window means.
"""

import logging
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Contract
from app.contracts.times import micros_in, micros_of
from app.data.online import OnlineStore
from app.data.storefile import STORE_ERRORS
from app.serving.messages import Refused

logger = logging.getLogger(__name__)


def with_windows(
    accepted: pa.Table, contract: Contract, online: OnlineStore | None, at: datetime
) -> pa.Table:
    """Add the windows as of now, or as of the prediction time where that is past.

    Raises Refused with 503 while history is being read, or when the store does not answer.
    """
    if online is None:
        return accepted
    lead = pa.scalar(contract.lead, pa.duration("us"))
    time = micros_in(pc.subtract(accepted[contract.event_time], lead)).to_numpy()
    try:
        refuse_unfilled(online)
        values = online.values(accepted, np.minimum(time, micros_of(at)))
    except STORE_ERRORS as error:
        logger.exception("the online store does not answer")
        got = "the window features cannot be looked up"
        raise Refused(503, "windows", got, "try again later") from error
    for name in values.column_names:
        accepted = accepted.append_column(name, values[name])
    return accepted


def refuse_unfilled(online: OnlineStore) -> None:
    """Raise Refused with 503 while history is being read."""
    if not online.filled:
        raise Refused(503, "windows", "history is being read", "try again in a minute")

"""What becomes of a request whose records cannot be kept, and how much room records may take.

Knows names, bounds and units; knows nothing of files, or of the parts that read them.
"""

from typing import Literal

from pydantic import Field

from app.contracts.rows import Frozen


class CaptureConfig(Frozen):
    """A replica's spool: what it has kept and not yet shipped to the tables.

    refuse: a prediction whose record cannot be kept is not given, the answer is 503. answer: it is
    given, says that it was not kept, and its rows are counted as lost. Outcomes that cannot be kept
    are refused either way: who sends them can send them again.
    """

    when_full: Literal["refuse", "answer"] = Field(
        "refuse", description="For a full disk, a full spool, or a spool that takes no records."
    )
    ship_in: Literal["process", "thread"] = Field(
        "process",
        description="What ships: a process of its own beside each replica, some 200 MB, or a "
        "thread in it, for which answers wait now and then.",
    )
    max_spool_mb: float = Field(
        4096.0,
        gt=0,
        description="A replica keeps no more than this, with what dead replicas have left there.",
    )

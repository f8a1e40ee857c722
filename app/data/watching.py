"""Say who looks on while an ingest works, and what one ingest leaves for the next.

Knows progress, looks at files and ids that were seen; knows nothing of Ray, rows or tables.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from app.data.ingestion import Progress
from app.data.looks import Looks
from app.data.seen import SeenIds
from app.security.tombstones import Hashes as Erased


def _silent(_progress: Progress) -> None:
    """Tell nobody."""


@dataclass
class Watch:
    """Who looks on while an ingest works, and what one ingest leaves for the next.

    `stop` is asked between deliveries: what is committed stays, the rest is for another time.
    `stopped` are the deliveries that the policy refused: they are not judged again as they were.
    `stale` says whether the newest row was too old at the last look, None before the first.
    """

    tell: Callable[[Progress], None] = _silent
    stop: Callable[[], bool] = bool
    looks: Looks = field(default_factory=Looks)
    stopped: frozenset[str] = frozenset()
    stale: bool | None = None
    seen: dict[str, SeenIds] = field(default_factory=dict)
    seen_at: tuple[int, Erased] | None = None

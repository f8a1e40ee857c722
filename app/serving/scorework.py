"""What a process that scores is sent, and what it sends back: names, places and counts.

No row, key or model travels. Knows nothing of Ray, or of how a piece is scored; torch is imported
only where pieces are scored, so that whoever hands them out does without its memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.config import Config
from app.data.inline import Inline
from app.data.reading import AnyPiece
from app.security.tombstones import Hashes
from app.serving.scoring import Counts
from app.serving.sinks import Sink

# So many tasks a process: the last ones end together, and progress can be told.
TASKS_A_SCORER = 8
MOST_PIECES = 16


@dataclass(frozen=True)
class Work:
    """What pieces are scored by, and where their scores are kept."""

    config: Config
    version: str
    sink: Sink
    inline: Inline | None
    erased: Hashes


class Outcome(NamedTuple):
    """What came of a piece: counts, or why it cannot be read, in words."""

    counts: Counts
    problem: str | None = None


def score_pieces(pieces: Sequence[AnyPiece], work: Work) -> list[Outcome]:
    """Score some pieces in this process; ends with the first that cannot be read."""
    from app.serving.scorer import score_all

    return score_all(pieces, work)


def in_tasks(pieces: Sequence[AnyPiece], num_scorers: int) -> list[Sequence[AnyPiece]]:
    """Divide pieces, in order, into tasks for some processes.

    >>> [len(each) for each in in_tasks(range(40), 2)][:3]
    [3, 3, 3]
    """
    size = min(-(-len(pieces) // (TASKS_A_SCORER * num_scorers)), MOST_PIECES)
    return [pieces[i : i + size] for i in range(0, len(pieces), max(size, 1))]

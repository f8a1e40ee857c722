"""Score pieces in one process: load the version once, read, predict, keep.

Knows artifacts, sinks and scoring; knows nothing of Ray or of which version is champion.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import torch

from app.data.pieces import SourceError
from app.data.reading import AnyPiece
from app.data.tables import open_tables
from app.data.validation import SchemaMismatch
from app.model.bundle import ModelBundle
from app.registry.artifacts import Artifacts
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key
from app.security.tombstones import Tombstones
from app.serving.scorework import Outcome, Work
from app.serving.scoring import Counts, Scoring, score_blocks, score_schema, scores_of


def score_all(pieces: Sequence[AnyPiece], work: Work) -> list[Outcome]:
    """Score some pieces in order; what is wrong with one is told in words, and is the last.

    An error would come out of a cluster wrapped in others.
    """
    scoring = scoring_of(work)
    schema = score_schema(scoring.bundle.contract)
    outcomes = list[Outcome]()
    for piece in pieces:
        name = scores_of(piece, work.version)
        try:
            counts = work.sink.write(name, schema, score_blocks(piece, scoring))
        except (SourceError, SchemaMismatch) as error:
            # Columns were checked before; a file that was changed since is no file to trust.
            outcomes.append(Outcome(Counts(0, 0), str(error)))
            break
        outcomes.append(Outcome(counts))
        # Pages that only this piece needed go back to the machine.
        pa.default_memory_pool().release_unused()
    return outcomes


def scoring_of(work: Work) -> Scoring:
    """Make what scoring needs, where it is needed, so that no key travels."""
    key = pseudonym_key(work.config)
    return Scoring(
        work.config.contract,
        _loaded(Artifacts(work.config.artifacts_path).path(work.version), work.version),
        Pseudonymiser(key),
        work.version,
        open_tables(work.config),
        work.inline,
        Tombstones(key, work.erased),
    )


@lru_cache(maxsize=2)
def _loaded(folder: Path, version: str) -> ModelBundle:
    """Load and verify a version once in a process, which is one of many on its machine."""
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    return ModelBundle.load(folder, version)

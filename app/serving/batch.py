"""Score files of rows on Ray Data, piece by piece, with the same prediction as the endpoint.

The scores are files: a run that was cut off is simply run again. Knows Ray Data, the registry and
the artifacts; what a piece of a file becomes is for scoring to say.
"""

import logging
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import ray.data
import torch

from app.config import Config
from app.contracts.targets import refuse_other_target
from app.contracts.windows import refuse_other_windows
from app.data.arrivals import standing_tombstones
from app.data.files import Piece
from app.data.inline import Inline
from app.data.inputs import find_pieces
from app.data.tables import open_tables
from app.ledger.database import open_ledger
from app.model.bundle import ModelBundle
from app.registry.artifacts import Artifacts
from app.registry.choosing import choose_version
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key
from app.serving.scoring import (
    ScoreResult,
    Scoring,
    count_scores,
    output_of,
    score_piece,
    write_scores,
)

CPUS_PER_SCORER = 0.5


class Scorer:
    """Scores pieces in one worker process; the version is loaded and verified once."""

    def __init__(
        self, config: Config, version: str, into: Path, pieces: list[Piece], inline: Inline | None
    ) -> None:
        """Load the version."""
        torch.set_num_threads(1)
        folder = Artifacts(config.artifacts_path).path(version)
        self._scoring = Scoring(
            config.contract,
            ModelBundle.load(folder, version),
            Pseudonymiser(pseudonym_key(config)),
            version,
            open_tables(config),
            inline,
            standing_tombstones(config),
        )
        self._into = into
        self._pieces = pieces

    def __call__(self, places: pa.Table) -> pa.Table:
        """Score and write the pieces at some places of the list."""
        for place in places["place"].to_pylist():
            piece = self._pieces[place]
            path = output_of(piece, self._scoring.version, self._into)
            write_scores(score_piece(piece, self._scoring), path)
        return places


def score(
    config: Config, rows: str, into: Path, version: str | None = None, num_scorers: int = 2
) -> ScoreResult:
    """Score a file, a folder or a glob into a folder of Parquet.

    Without a version, by its digest or the beginning of one, it is the champion that scores; for a
    task that has none the version that was registered last.

    Needs a Ray session. Raises SourceError for rows that cannot be read, VersionUnknown
    when there is nothing to score with, ValueError for a version that does not fit.
    """
    version = _choose(config, version)
    inline = Inline.of(config, datetime.now(UTC))
    pieces = find_pieces(rows, config.contract, inline, config.source.delimiter)
    outputs = [output_of(piece, version, into) for piece in pieces]
    pending = [piece for piece, path in zip(pieces, outputs, strict=True) if not path.exists()]
    if pending:
        _refuse_unfit(config, version)
        _run(Scorer, (config, version, into, pending, inline), min(num_scorers, len(pending)))
    num_scored, num_rejected = count_scores(outputs)
    return ScoreResult(
        model=config.name,
        version=version,
        into=str(into),
        num_pieces=len(pieces),
        num_pieces_found=len(pieces) - len(pending),
        num_in=num_scored + num_rejected,
        num_scored=num_scored,
        num_rejected=num_rejected,
    )


def _choose(config: Config, version: str | None) -> str:
    with closing(open_ledger(config.ledger_url)) as ledger:
        or_latest = config.contract.task != "binary"
        return choose_version(ledger, config.name, version, or_latest=or_latest).digest


def _refuse_unfit(config: Config, version: str) -> None:
    """Raise ValueError where a version means something else than the configuration declares."""
    bundle = ModelBundle.load(Artifacts(config.artifacts_path).path(version), version)
    refuse_other_windows(bundle.contract, config.contract)
    refuse_other_target(bundle.contract, config.contract)


def _run(
    scorer: type[Scorer],
    arguments: tuple[Config, str, Path, list[Piece], Inline | None],
    num_scorers: int,
) -> None:
    """Give every place of the list of pieces to a pool of scorers."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    places = ray.data.from_items([{"place": i} for i in range(len(arguments[3]))])
    done = places.repartition(len(arguments[3])).map_batches(
        scorer,
        fn_constructor_args=arguments,
        batch_size=1,
        batch_format="pyarrow",
        concurrency=num_scorers,
        num_cpus=CPUS_PER_SCORER,
    )
    done.materialize()

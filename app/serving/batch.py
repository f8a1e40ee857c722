"""Score a source on Ray Data, piece by piece, with the same prediction as the endpoint.

Workers are given places of a list, read the pieces there and write their scores: no row travels.
A run that was cut off is simply run again. Knows Ray Data, the registry and the artifacts; what a
piece becomes is for scoring to say, where it is kept for a sink.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
import torch

from app.config import Config
from app.contracts.rows import Contract
from app.contracts.targets import refuse_other_target
from app.contracts.windows import refuse_other_windows
from app.data.arrivals import standing_tombstones
from app.data.deliveries import Mark
from app.data.ingestion import Progress
from app.data.inline import Inline
from app.data.pieces import SourceError
from app.data.reading import AnyPiece, FlightsPiece
from app.data.sources import Source, open_source
from app.data.tables import open_tables
from app.data.validation import DERIVED, SchemaMismatch
from app.ledger.database import open_ledger
from app.model.bundle import ModelBundle
from app.registry.artifacts import Artifacts
from app.registry.choosing import choose_version
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key
from app.security.tombstones import Hashes, Tombstones
from app.serving.scoring import (
    Counts,
    ScoreResult,
    Scoring,
    score_blocks,
    score_schema,
    scores_of,
)
from app.serving.sinks import Sink, note_begun, note_done, position_in

CPUS_PER_SCORER = 0.5
OUTCOME = pa.schema(
    [
        pa.field("num_scored", pa.int64()),
        pa.field("num_rejected", pa.int64()),
        pa.field("problem", pa.string()),
    ]
)
Tell = Callable[[Progress], None]


@dataclass(frozen=True)
class Work:
    """What a worker is sent: names and places; no key and no model travels."""

    config: Config
    version: str
    sink: Sink
    pieces: Sequence[AnyPiece]
    inline: Inline | None
    erased: Hashes

    def scoring(self) -> Scoring:
        """Make what scoring needs, where it is needed."""
        key = pseudonym_key(self.config)
        return Scoring(
            self.config.contract,
            _bundle(Artifacts(self.config.artifacts_path).path(self.version), self.version),
            Pseudonymiser(key),
            self.version,
            open_tables(self.config),
            self.inline,
            Tombstones(key, self.erased),
        )


def score(
    config: Config,
    sink: Sink,
    version: str | None = None,
    num_scorers: int = 2,
    *,
    tell: Tell | None = None,
) -> ScoreResult:
    """Score what the configuration's source names into a sink; see scoredsource for others.

    Without a version, by its digest or the beginning of one, it is the champion that scores; for a
    task that has none the version that was registered last. Pieces that are in the sink are passed
    over, also those that another run put there meanwhile.

    Needs a Ray session. Raises SourceError for rows that cannot be read, VersionUnknown
    when there is nothing to score with, ValueError for a version that does not fit.
    """
    version = _choose(config, version)
    source = _open(config, sink, version)
    pieces = _pieces(config, source, version)
    found = sink.found(list(pieces))
    pending = [piece for name, piece in pieces.items() if name not in found]
    told = _Told(len(pieces), tell)
    told.add(found.values())
    if pending:
        sink.prepare(score_schema(_fit_contract(config, version)))
        note_begun(sink, version, _marks(source))
        erased = standing_tombstones(config).hashes
        work = Work(config, version, sink, pending, source.inline, erased)
        for counts in _run(work, min(num_scorers, len(pending))):
            told.add([counts])
    note_done(sink, version, [*_marks(source), *source.reached])
    return ScoreResult(
        model=config.name,
        version=version,
        into=sink.place,
        num_pieces=len(pieces),
        num_pieces_found=len(found),
        num_in=told.counts.num_scored + told.counts.num_rejected,
        num_scored=told.counts.num_scored,
        num_rejected=told.counts.num_rejected,
    )


class _Told:
    """Counts what is done, and says so."""

    def __init__(self, num_pieces: int, tell: Tell | None) -> None:
        self.counts, self._num_done = Counts(0, 0), 0
        self._num_pieces, self._tell = num_pieces, tell

    def add(self, done: Iterable[Counts]) -> None:
        for counts in done:
            self.counts = Counts(*map(sum, zip(self.counts, counts, strict=True)))
            self._num_done += 1
        if self._tell is not None:
            self._tell(Progress(self._num_done, self._num_pieces, sum(self.counts)))


def _choose(config: Config, version: str | None) -> str:
    with closing(open_ledger(config.ledger_url)) as ledger:
        or_latest = config.contract.task != "binary"
        return choose_version(ledger, config.name, version, or_latest=or_latest).digest


def _open(config: Config, sink: Sink, version: str) -> Source:
    """Open the source; of a table that grows, what came since it was scored into this sink."""
    position = partial(position_in, sink, version)
    return open_source(config, position, at=datetime.now(UTC), spared=DERIVED)


def _pieces(config: Config, source: Source, version: str) -> dict[str, AnyPiece]:
    """Name the pieces of a source, in order; the same rows under two names are one."""
    pieces: list[AnyPiece] = [piece for each in source.deliveries for piece in each.pieces]
    if source.read_flights is not None:
        pieces = [FlightsPiece(each.digest, config.source) for each in source.deliveries]
    return {scores_of(piece, version): piece for piece in pieces}


def _marks(source: Source) -> list[Mark]:
    return [mark for delivery in source.deliveries for mark in delivery.marks]


def _fit_contract(config: Config, version: str) -> Contract:
    """Give a version's contract.

    Raises ValueError where it means something else than the configuration declares.
    """
    bundle = ModelBundle.load(Artifacts(config.artifacts_path).path(version), version)
    refuse_other_windows(bundle.contract, config.contract)
    refuse_other_target(bundle.contract, config.contract)
    return bundle.contract


@lru_cache(maxsize=2)
def _bundle(folder: Path, version: str) -> ModelBundle:
    """Load and verify a version once in a process, which scores many pieces."""
    torch.set_num_threads(1)
    return ModelBundle.load(folder, version)


def _run(work: Work, num_scorers: int) -> Iterator[Counts]:
    """Have every piece scored by some processes at a time; gives counts as pieces are done.

    Raises SourceError for the first piece that cannot be read; those before it are in the sink.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    places = [{"place": place} for place in range(len(work.pieces))]
    dataset = ray.data.from_items(places, override_num_blocks=len(places)).map_batches(
        partial(_score, work=work),
        batch_size=None,
        batch_format="pyarrow",
        concurrency=num_scorers,
        num_cpus=CPUS_PER_SCORER,
    )
    batches: Iterable[Any] = dataset.iter_batches(
        batch_size=None, batch_format="pyarrow", prefetch_batches=0
    )
    for batch in batches:
        for outcome in batch.to_pylist():
            if outcome["problem"] is not None:
                raise SourceError(outcome["problem"])
            yield Counts(outcome["num_scored"], outcome["num_rejected"])


def _score(places: pa.Table, work: Work) -> pa.Table:
    """Score the pieces at some places; what is wrong with one is told in words, not raised.

    An error would come out of the cluster wrapped in others.
    """
    scoring = work.scoring()
    outcomes = [_outcome(work.pieces[i], work, scoring) for i in places["place"].to_pylist()]
    return pa.Table.from_pylist(outcomes, OUTCOME)


def _outcome(piece: AnyPiece, work: Work, scoring: Scoring) -> dict[str, object]:
    schema = score_schema(scoring.bundle.contract)
    name = scores_of(piece, work.version)
    try:
        return work.sink.write(name, schema, score_blocks(piece, scoring))._asdict()
    except (SourceError, SchemaMismatch) as error:
        # Columns were checked before; a file that was changed since is no file to trust.
        return {"problem": str(error)}

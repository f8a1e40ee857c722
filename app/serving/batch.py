"""Score a source on a cluster, piece by piece, with the same prediction as the endpoint.

Tasks are given pieces, read them where they run and keep their scores: no row travels, as none does
when files are encoded. A run that was cut off is simply run again. Knows Ray, the registry and the
artifacts; what a piece becomes is for scoring to say, where it is kept for a sink.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import Any

import ray
import ray.exceptions

from app.config import Config
from app.contracts.rows import Contract
from app.contracts.targets import refuse_other_target
from app.contracts.windows import refuse_other_windows
from app.data.arrivals import standing_tombstones
from app.data.deliveries import Mark
from app.data.ingestion import Progress
from app.data.pieces import SourceError
from app.data.reading import AnyPiece, FlightsPiece
from app.data.sources import Source, open_source
from app.data.validation import DERIVED
from app.ledger.database import open_ledger
from app.model.manifest import read_folder
from app.registry.artifacts import Artifacts
from app.registry.choosing import choose_version
from app.serving.scorework import Outcome, Work, in_tasks, score_pieces
from app.serving.scoring import Counts, ScoreResult, score_schema, scores_of
from app.serving.sinks import Sink, note_begun, note_done, position_in

CPUS_PER_SCORER = 0.5
Tell = Callable[[Progress], None]


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
        work = Work(config, version, sink, source.inline, erased)
        for outcomes in _run(pending, work, num_scorers):
            told.add(_good(outcomes))
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
    # The whole bundle is verified here and loaded, with torch, where it scores.
    files = read_folder(Artifacts(config.artifacts_path).path(version), version)
    contract = Contract.model_validate_json(files["contract.json"])
    refuse_other_windows(contract, config.contract)
    refuse_other_target(contract, config.contract)
    return contract


def _run(pieces: Sequence[AnyPiece], work: Work, num_scorers: int) -> Iterator[Sequence[Outcome]]:
    """Have pieces scored by some processes at a time; gives outcomes as tasks end."""
    task = ray.remote(score_pieces).options(num_cpus=CPUS_PER_SCORER)
    sent = ray.put(work)
    waiting = in_tasks(pieces, num_scorers)[::-1]
    running: list[Any] = []
    try:
        while waiting or running:
            while waiting and len(running) < num_scorers:
                running.append(task.remote(waiting.pop(), sent))
            (done,), running = ray.wait(running, num_returns=1)
            yield ray.get(done)
    except ray.exceptions.RayTaskError as error:
        # The words are those of the error itself; the worker's own trace stands behind it.
        raise error.cause from error


def _good(outcomes: Sequence[Outcome]) -> list[Counts]:
    """Raise SourceError for a piece that cannot be read; those before it are in the sink."""
    for outcome in outcomes:
        if outcome.problem is not None:
            raise SourceError(outcome.problem)
    return [outcome.counts for outcome in outcomes]

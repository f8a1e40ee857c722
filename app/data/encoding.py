"""Encode files of rows on the cluster: a few long tasks, each of which reads, judges and writes.

No row travels through the object store; what does is counts, the encoder and names. Memory is
bounded by a piece for each worker, and by the distinct values that an encoder is fitted from. A run
that was cut off is simply run again. Knows Ray; what becomes of a piece is for encoded to say.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from app.config import Config
from app.data.encoded import EncodeResult, Work, count_pieces, count_rows, encode_pieces
from app.data.features import Encoder, Statistics
from app.data.files import Piece, SourceError
from app.data.inputs import find_pieces
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key


def encode(
    config: Config, rows: str, into: Path, encoder: Path | None = None, num_workers: int = 2
) -> EncodeResult:
    """Encode a file, a folder or a glob into a folder of Parquet.

    Without the file of an encoder one is fitted on the accepted rows and left in the folder. Needs
    a Ray session. Raises SourceError for rows that cannot be read, and ValueError for a folder that
    holds other rows.
    """
    pieces = find_pieces(rows, config.contract)
    if not pieces:
        raise SourceError(f"{rows}: holds no rows; name files that do")
    work = _work(config, into)
    path = encoder or work.encoder_of(pieces, config.features)
    if encoder is None and not path.exists():
        _fit(config, pieces, into, path, num_workers)
    chosen = Encoder.from_json(path.read_bytes())
    digest = chosen.digest
    outputs = [work.encoded_of(piece, digest) for piece in pieces]
    _refuse_others(into, [*outputs, *map(work.refused_of, pieces)])
    pending = [p for p, output in zip(pieces, outputs, strict=True) if not output.exists()]
    for _ in _in_shares(_encode, pending, num_workers, config, into, chosen.to_json()):
        continue
    num_encoded = count_rows(outputs)
    num_quarantined = count_rows(map(work.refused_of, pieces))
    return EncodeResult(
        model=config.name,
        into=str(into),
        encoder=str(path),
        num_pieces=len(pieces),
        num_pieces_found=len(pieces) - len(pending),
        num_in=num_encoded + num_quarantined,
        num_encoded=num_encoded,
        num_quarantined=num_quarantined,
    )


def _fit(config: Config, pieces: Sequence[Piece], into: Path, path: Path, num_workers: int) -> None:
    """Judge every piece and fit an encoder on what is accepted."""
    counted = _in_shares(_count, pieces, num_workers, config, into)
    statistics = Statistics.merge_all(Statistics.from_bytes(content) for content in counted)
    aside = path.with_name(f".{path.name}")
    aside.write_bytes(Encoder.fit(statistics, config.features).to_json())
    aside.replace(path)


def _count(pieces: Sequence[Piece], config: Config, into: Path) -> bytes:
    return count_pieces(pieces, _work(config, into)).to_bytes()


def _encode(pieces: Sequence[Piece], config: Config, into: Path, encoder: bytes) -> None:
    encode_pieces(pieces, Encoder.from_json(encoder), _work(config, into))


def _work(config: Config, into: Path) -> Work:
    """Make it where it is needed, so that no key travels."""
    return Work(config.contract, Pseudonymiser(pseudonym_key(config)), into)


def _in_shares(
    act: Callable[..., Any], pieces: Sequence[Piece], num_workers: int, *arguments: object
) -> Iterator[Any]:
    """Give every worker one share of the pieces, and return what each makes of it.

    A share is every n-th piece, so that large files are divided evenly.
    """
    shares = [pieces[i::num_workers] for i in range(min(num_workers, len(pieces)))]
    task = ray.remote(act)
    started = [task.remote(share, *arguments) for share in shares]
    try:
        while started:
            yield ray.get(started.pop(0))
    except ray.exceptions.RayTaskError as error:
        # The words are those of the error itself; the worker's own trace stands behind it.
        raise error.cause from error


def _refuse_others(into: Path, own: Sequence[Path]) -> None:
    """Raise ValueError when the folder holds what another encoder or other rows left."""
    folders = {path.parent for path in own}
    found = {file for folder in folders for file in folder.glob("*.parquet")}
    others = sorted(found - set(own))
    if others:
        raise ValueError(
            f"{into}: holds rows of another run, such as {others[0].name}; name an empty folder"
        )

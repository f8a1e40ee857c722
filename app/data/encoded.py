"""Encode files of rows: what one piece of a file becomes, and where it is written.

A row that goes in comes out encoded, or in quarantine with every reason; the two add up. A file is
written aside and renamed, so a run that was cut off goes on where it was. Knows files, rows and the
encoder; knows nothing of Ray. Ids are compared within a piece, not between pieces: a row that comes
twice in a source is for the ingest to refuse.
"""

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from app.contracts.rows import Contract, Frozen
from app.data.cells import cells_of_arrow
from app.data.distinct import take_most
from app.data.features import Encoder, Statistics
from app.data.files import Piece, Rows, SourceError, read_piece
from app.data.quarantine import QUARANTINED, WITHHELD
from app.data.validation import validate
from app.sections import FeaturesConfig
from app.security.privacy import Pseudonymiser

REFUSED = pa.schema([*QUARANTINED, pa.field("file", pa.string(), nullable=False)])
DIGEST_CHARACTERS = 16


class EncodeResult(Frozen):
    """What encoding files came to. num_in = num_encoded + num_quarantined, exactly."""

    model: str
    into: str
    encoder: str = Field(description="The file of the encoder that was used.")
    num_pieces: int = Field(ge=0)
    num_pieces_found: int = Field(ge=0, description="Done by an earlier run.")
    num_in: int = Field(ge=0)
    num_encoded: int = Field(ge=0)
    num_quarantined: int = Field(ge=0)


@dataclass(frozen=True)
class Work:
    """What encoding needs besides the rows: the contract, the key, and where to write."""

    contract: Contract
    pseudonymiser: Pseudonymiser
    into: Path

    @cached_property
    def texts(self) -> list[str]:
        """Columns that are read as dictionaries and stay so."""
        return [column.name for column in self.contract.features if column.kind == "category"]

    @cached_property
    def digest(self) -> str:
        """Digest what rows are judged by; another key gives other pseudonyms."""
        key = self.pseudonymiser.one("key") if self.contract.personal else ""
        return _digest(self.contract.model_dump_json(), key)

    def refused_of(self, piece: Piece) -> Path:
        """Name the file of a piece's refused rows."""
        return self.into / "quarantine" / f"{_name(piece)}-{self.digest}.parquet"

    def encoded_of(self, piece: Piece, encoder: str) -> Path:
        """Name the file of a piece's encoded rows; `encoder` is the digest of one."""
        made_by = _digest(self.digest, encoder)
        return self.into / "rows" / f"{_name(piece)}-{made_by}.parquet"

    def encoder_of(self, pieces: Sequence[Piece], features: FeaturesConfig) -> Path:
        """Name the file of the encoder that is fitted on some pieces."""
        made_by = _digest(self.digest, features.model_dump_json(), *map(_name, pieces))
        return self.into / f"encoder-{made_by}.json"


def count_pieces(pieces: Sequence[Piece], work: Work) -> Statistics:
    """Judge some pieces, write their refused rows, and count the accepted ones for an encoder."""
    return Statistics.merge_all(
        Statistics.collect(_judge(read_piece(piece, work.texts), piece, work), work.contract)
        for piece in pieces
    )


def encode_pieces(pieces: Iterable[Piece], encoder: Encoder, work: Work) -> None:
    """Encode the accepted rows of some pieces; those that are done already are passed over.

    Pieces that were judged, for an encoder that was fitted on them, are not judged again.
    """
    digest = encoder.digest
    for piece in pieces:
        path = work.encoded_of(piece, digest)
        if path.exists():
            continue
        rows = read_piece(piece, work.texts)
        judged = work.refused_of(piece).exists()
        accepted = _accepted_before(rows, piece, work) if judged else _judge(rows, piece, work)
        num_quarantined = pq.read_metadata(work.refused_of(piece)).num_rows
        # A piece that changed since it was judged cannot be put together.
        if accepted.num_rows + num_quarantined != rows.table.num_rows + len(rows.broken):
            raise SourceError(f"{piece.path}: changed while it was read; start again")
        columns = encoder.columns(accepted)
        codes = [name for name, values in columns.items() if values.dtype == np.int32]
        kept = accepted.select([work.contract.id, work.contract.event_time])
        arrays = [*kept.columns, *map(pa.array, columns.values())]
        write_aside(pa.table(arrays, names=[*kept.column_names, *columns]), path, codes)


def count_rows(paths: Iterable[Path]) -> int:
    """Count the rows of files from their footers."""
    return sum(pq.read_metadata(path).num_rows for path in paths)


def write_aside(table: pa.Table, path: Path, dictionaries: Sequence[str] = ()) -> None:
    """Write aside and rename: a file is whole or absent.

    Only the named columns are worth a dictionary; trying it on numbers takes longer than the rest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    pq.write_table(table, aside, use_dictionary=list(dictionaries))
    aside.replace(path)


def _judge(rows: Rows, piece: Piece, work: Work) -> pa.Table:
    """Write the refused rows of a piece and return the accepted ones."""
    judged = validate(
        rows.table, work.contract, pseudonymiser=work.pseudonymiser, dictionaries=True
    )
    refused = judged.quarantined
    # What stood in a broken line is not known, and some of it may be personal.
    broken = {
        "row": [f'{{"row":"{WITHHELD}"}}'] * len(rows.broken),
        "reasons": [[f"row {problem}"] for _, problem in rows.broken],
        "position": [line for line, _ in rows.broken],
    }
    positions = pa.array(rows.positions[refused["position"].to_numpy()])
    refused = refused.set_column(2, QUARANTINED.field("position"), positions)
    refused = pa.concat_tables([refused, pa.table(broken, QUARANTINED)]).sort_by("position")
    file = pa.repeat(pa.scalar(Path(piece.path).name), refused.num_rows)
    write_aside(refused.append_column(REFUSED.field("file"), file), work.refused_of(piece))
    return judged.accepted


def _accepted_before(rows: Rows, piece: Piece, work: Work) -> pa.Table:
    """Return the rows that were accepted when this piece was judged."""
    refused = pq.read_table(work.refused_of(piece), columns=["position"])["position"].to_numpy()
    positions = np.flatnonzero(~np.isin(rows.positions, refused))
    columns = work.contract.columns
    cells = [cells_of_arrow(rows.table[c.name], c, dictionaries=True).array for c in columns]
    typed = pa.Table.from_arrays(cells, names=[c.name for c in columns])
    return work.pseudonymiser.protect(take_most(typed, positions), work.contract)


def _name(piece: Piece) -> str:
    return f"{piece.digest}-{piece.row_group:05d}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:DIGEST_CHARACTERS]

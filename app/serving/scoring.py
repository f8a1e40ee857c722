"""Score files of rows: what one piece of a file becomes, and where it is written.

Every row that goes in comes out, with its probability or with the reasons why it has none, stamped
with the version. A piece is written aside and renamed, so a run that was cut off goes on where it
was. Knows files, rows and one bundle; knows nothing of Ray or of which version is champion.
"""

import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from app.contracts.rows import Contract, Frozen
from app.contracts.times import micros_in
from app.data.derived import with_windows
from app.data.files import Piece, read_piece
from app.data.forgetting import refuse_checked
from app.data.inline import Inline
from app.data.tables import Tables
from app.data.validation import validate
from app.security.privacy import Pseudonymiser
from app.security.tombstones import Tombstones
from app.serving.residents import Bundle

SCORES = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("row_id", pa.string()),
        pa.field("probability", pa.float64()),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        pa.field("version", pa.string(), nullable=False),
    ]
)


class ScoreResult(Frozen):
    """What scoring files came to. num_in = num_scored + num_rejected, exactly."""

    model: str
    version: str
    into: str
    num_pieces: int = Field(ge=0)
    num_pieces_found: int = Field(ge=0, description="Done by an earlier run.")
    num_in: int = Field(ge=0)
    num_scored: int = Field(ge=0)
    num_rejected: int = Field(ge=0)


class Scoring(NamedTuple):
    """What scoring needs besides the rows."""

    contract: Contract
    bundle: Bundle
    pseudonymiser: Pseudonymiser
    version: str
    tables: Tables
    inline: Inline | None = None
    erased: Tombstones | None = None


def output_of(piece: Piece, version: str, into: Path) -> Path:
    """Name the file with a piece's scores by what it was made from."""
    return into / f"{piece.digest}-{piece.row_group:05d}-{version[:16]}.parquet"


def score_piece(piece: Piece, scoring: Scoring) -> pa.Table:
    """Score the rows of a piece; returns SCORES in the order of the file."""
    rows = read_piece(piece)
    if scoring.inline is not None:
        rows = scoring.inline.rows(rows, piece.path)
    checked = validate(rows.table, scoring.contract, pseudonymiser=scoring.pseudonymiser)
    if scoring.erased:
        checked = refuse_checked(checked, scoring.contract, scoring.erased)
    scored = pa.table(
        {
            "position": rows.positions[checked.positions],
            "row_id": checked.accepted[scoring.contract.id],
            "probability": scoring.bundle.predict(_with_windows(checked.accepted, scoring)),
            "reasons": pa.array([[]] * checked.accepted.num_rows, pa.list_(pa.string())),
        }
    )
    refused = checked.quarantined
    positions = np.append(
        rows.positions[refused["position"].to_numpy()], [line for line, _ in rows.broken]
    ).astype(np.int64)
    reasons = [*refused["reasons"].to_pylist(), *([f"row {what}"] for _, what in rows.broken)]
    rejected = pa.table(
        {
            "position": positions,
            "row_id": pa.nulls(len(reasons), pa.string()),
            "probability": pa.nulls(len(reasons), pa.float64()),
            "reasons": pa.array(reasons, pa.list_(pa.string())),
        }
    )
    table = pa.concat_tables([scored, rejected]).sort_by("position")
    file = pa.repeat(pa.scalar(Path(piece.path).name), table.num_rows)
    version = pa.repeat(pa.scalar(scoring.version), table.num_rows)
    table = table.append_column("file", file).append_column("version", version)
    return table.select(SCORES.names).cast(SCORES)


def _with_windows(accepted: pa.Table, scoring: Scoring) -> pa.Table:
    """Add windows as of each row's prediction time, from what the tables hold now."""
    contract = scoring.contract
    lead = pa.scalar(contract.lead, pa.duration("us"))
    asked = micros_in(pc.subtract(accepted[contract.event_time], lead)).to_numpy()
    return with_windows(scoring.tables, contract, accepted, asked)


def write_scores(scores: pa.Table, path: Path) -> None:
    """Write aside and rename: a file of scores is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    pq.write_table(scores, aside)
    aside.replace(path)


def count_scores(paths: Iterable[Path]) -> tuple[int, int]:
    """Count rows with and without a probability in files of scores."""
    num_scored = num_rejected = 0
    for path in paths:
        probability = pq.read_table(path, columns=["probability"])["probability"]
        num_rejected += probability.null_count
        num_scored += len(probability) - probability.null_count
    return num_scored, num_rejected

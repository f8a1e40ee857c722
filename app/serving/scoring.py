"""Score files of rows: what one piece of a file becomes, and where it is written.

Every row that goes in comes out, with its prediction or with the reasons why it has none, stamped
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
from numpy.typing import NDArray
from pydantic import Field

from app.contracts.rows import Contract, Frozen
from app.contracts.targets import Task
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

PREDICTED = "predicted"
# What the one number of a row is called.
NUMBERS: dict[Task, str] = {
    "binary": "probability",
    "regression": "prediction",
    "ranking": "score",
}


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
    """Score the rows of a piece; returns those of score_schema in the order of the file."""
    rows = read_piece(piece)
    if scoring.inline is not None:
        rows = scoring.inline.rows(rows, piece.path)
    checked = validate(rows.table, scoring.contract, pseudonymiser=scoring.pseudonymiser)
    if scoring.erased:
        checked = refuse_checked(checked, scoring.contract, scoring.erased)
    target = scoring.bundle.contract
    predicted = scoring.bundle.predict(_with_windows(checked.accepted, scoring))
    scored = pa.table(
        {
            "position": rows.positions[checked.positions],
            "row_id": checked.accepted[scoring.contract.id],
            **prediction_columns(target, predicted),
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
            **{
                field.name: pa.nulls(len(reasons), field.type)
                for field in prediction_fields(target)
            },
            "reasons": pa.array(reasons, pa.list_(pa.string())),
        }
    )
    table = pa.concat_tables([scored, rejected]).sort_by("position")
    file = pa.repeat(pa.scalar(Path(piece.path).name), table.num_rows)
    version = pa.repeat(pa.scalar(scoring.version), table.num_rows)
    table = table.append_column("file", file).append_column("version", version)
    schema = score_schema(target)
    return table.select(schema.names).cast(schema)


def score_schema(target: Contract) -> pa.Schema:
    """Give the columns of a file of scores, for what a model's contract asks for.

    Binary: `probability`. Regression: `prediction`. Ranking: `score`, higher is better. Multiclass:
    `predicted`, the most likely class, and a `probability_CLASS` each, in the order of the classes.
    """
    return pa.schema(
        [
            pa.field("file", pa.string(), nullable=False),
            pa.field("position", pa.int64(), nullable=False),
            pa.field("row_id", pa.string()),
            *prediction_fields(target),
            pa.field("reasons", pa.list_(pa.string()), nullable=False),
            pa.field("version", pa.string(), nullable=False),
        ]
    )


def prediction_fields(target: Contract) -> list[pa.Field]:
    """Name and type the columns that hold predictions; all are null where a row was refused."""
    if target.task != "multiclass":
        return [pa.field(NUMBERS[target.task], pa.float64())]
    shares = [pa.field(f"probability_{name}", pa.float64()) for name in target.classes]
    return [pa.field(PREDICTED, pa.string()), *shares]


def prediction_columns(target: Contract, predicted: NDArray[np.float64]) -> dict[str, pa.Array]:
    """Divide predictions into columns: [rows], or [rows, classes] for task multiclass.

    Of classes that are equally likely the first is `predicted`.
    """
    names = [field.name for field in prediction_fields(target)]
    if target.task != "multiclass":
        return {names[0]: pa.array(predicted)}
    shape = len(predicted), len(target.classes)
    if not len(predicted):
        predicted = np.empty(shape)
    if predicted.shape != shape:
        raise ValueError(
            f"predictions: expected {shape[0]} rows of {shape[1]} classes, got {predicted.shape}; "
            "the version does not fit its own contract"
        )
    classes = pa.array(target.classes, pa.string())
    best = classes.take(pa.array(predicted.argmax(axis=1)))
    shares = (pa.array(column) for column in predicted.T.copy())
    return dict(zip(names, (best, *shares), strict=True))


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
    """Count rows with a prediction, and with reasons why they have none, in files of scores."""
    num_scored = num_rejected = 0
    for path in paths:
        reasons = pq.read_table(path, columns=["reasons"])["reasons"]
        num_refused = pc.sum(pc.greater(pc.list_value_length(reasons), 0)).as_py() or 0
        num_rejected += num_refused
        num_scored += len(reasons) - num_refused
    return num_scored, num_rejected

"""Score rows of any source: what a block of a piece becomes, and what it is stamped with.

Every row that goes in comes out, with its prediction or with the reasons why it has none, stamped
with the version. Memory holds a block at a time, however large a piece is. Knows rows and one
bundle; knows nothing of Ray, of which version is champion, or of where scores are kept.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from app.contracts.rows import Contract, Frozen
from app.contracts.targets import Task
from app.contracts.times import micros_in
from app.data.across import RepeatsAcross
from app.data.derived import with_windows
from app.data.forgetting import refuse_checked
from app.data.inline import Inline
from app.data.intake import objects_of
from app.data.pieces import OBJECT, Rows
from app.data.reading import (
    AnyPiece,
    FlightsPiece,
    as_read,
    name_of_piece,
    rows_of_flights,
    rows_of_piece,
)
from app.data.tables import Tables
from app.data.validation import Validated, validate, validate_rows
from app.security.privacy import Pseudonymiser
from app.security.tombstones import Tombstones
from app.serving.residents import Bundle

# The usual row group of a hundred thousand rows is one block; larger ones are read in several.
BLOCK_ROWS = 131_072
PREDICTED = "predicted"
# What the one number of a row is called.
NUMBERS: dict[Task, str] = {
    "binary": "probability",
    "regression": "prediction",
    "ranking": "score",
}


class ScoreResult(Frozen):
    """What scoring a source came to. num_in = num_scored + num_rejected, exactly.

    Rows are those of the pieces that the source has; of a table that is followed by a position
    (Delta, SQL by a cursor), those that came since.
    """

    model: str
    version: str
    into: str
    num_pieces: int = Field(ge=0)
    num_pieces_found: int = Field(ge=0, description="Done by an earlier run.")
    num_in: int = Field(ge=0)
    num_scored: int = Field(ge=0)
    num_rejected: int = Field(ge=0)


class Counts(NamedTuple):
    """What became of the rows of a piece."""

    num_scored: int
    num_rejected: int


class Scoring(NamedTuple):
    """What scoring needs besides the rows."""

    contract: Contract
    bundle: Bundle
    pseudonymiser: Pseudonymiser
    version: str
    tables: Tables
    inline: Inline | None = None
    erased: Tombstones | None = None

    @property
    def texts(self) -> list[str]:
        """Columns that may be read as dictionaries: whoever shapes rows, or windows, wants text."""
        if self.inline is not None or self.contract.windows:
            return []
        return [column.name for column in self.contract.features if column.kind == "category"]


def scores_of(piece: AnyPiece, version: str) -> str:
    """Name the scores of a piece by what they are made from: the same in every run."""
    row_group = getattr(piece, "row_group", 0)
    return f"{piece.digest}-{row_group:05d}-{version[:16]}"


def score_piece(piece: AnyPiece, scoring: Scoring) -> pa.Table:
    """Score a piece that fits in memory; see score_blocks."""
    schema = score_schema(scoring.bundle.contract)
    blocks = (block.cast(schema) for block in score_blocks(piece, scoring))
    return pa.concat_tables([schema.empty_table(), *blocks])


def score_blocks(piece: AnyPiece, scoring: Scoring) -> Iterator[pa.Table]:
    """Score a piece block by block, each in the columns of score_schema and in the piece's order.

    Among rows of one id the first acceptable one of the piece is scored. Raises SourceError for a
    piece that cannot be read or was changed.
    """
    across = RepeatsAcross(scoring.contract)
    name = name_of_piece(piece)
    for rows in _read(piece, scoring):
        checked = across.refuse(_checked(rows.table, scoring))
        if scoring.erased:
            checked = refuse_checked(checked, scoring.contract, scoring.erased)
        yield _stamped(_scored(rows, checked, scoring), name, scoring)


def _read(piece: AnyPiece, scoring: Scoring) -> Iterator[Rows]:
    if isinstance(piece, FlightsPiece):
        return rows_of_flights(piece, scoring.pseudonymiser)
    piece = replace(piece, limits=piece.limits._replace(max_block_rows=BLOCK_ROWS))
    shape = scoring.inline.rows if scoring.inline is not None else as_read
    return rows_of_piece(piece, shape, scoring.texts)


def _checked(table: pa.Table, scoring: Scoring) -> Validated:
    if OBJECT in table.column_names:
        objects = objects_of(table)
        return validate_rows(objects, scoring.contract, pseudonymiser=scoring.pseudonymiser)
    return validate(table, scoring.contract, pseudonymiser=scoring.pseudonymiser, dictionaries=True)


def _scored(rows: Rows, checked: Validated, scoring: Scoring) -> pa.Table:
    """Give what is known of every row of a block but where it stood and who scored it."""
    target, accepted = scoring.bundle.contract, checked.accepted
    predicted = scoring.bundle.predict(_with_windows(accepted, scoring))
    # Lists without a member, each of which begins and ends at 0.
    no_reasons = pa.ListArray.from_arrays(
        np.zeros(accepted.num_rows + 1, np.int32), pa.array([], pa.string())
    )
    scored = pa.table(
        {
            "position": rows.positions[checked.positions],
            "row_id": accepted[scoring.contract.id],
            **prediction_columns(target, predicted),
            "reasons": no_reasons,
        }
    )
    if not checked.quarantined.num_rows and not rows.broken:
        return scored
    rejected = _rejected(rows, checked.quarantined, target)
    return pa.concat_tables([scored, rejected]).sort_by("position")


def _rejected(rows: Rows, refused: pa.Table, target: Contract) -> pa.Table:
    positions = np.append(
        rows.positions[refused["position"].to_numpy()], [line for line, _ in rows.broken]
    ).astype(np.int64)
    reasons = [*refused["reasons"].to_pylist(), *([f"row {what}"] for _, what in rows.broken)]
    nothing = {
        field.name: pa.nulls(len(reasons), field.type) for field in prediction_fields(target)
    }
    return pa.table(
        {
            "position": positions,
            "row_id": pa.nulls(len(reasons), pa.string()),
            **nothing,
            "reasons": pa.array(reasons, pa.list_(pa.string())),
        }
    )


def _stamped(scores: pa.Table, file: str, scoring: Scoring) -> pa.Table:
    """Say of every row where it stood and which version scored it: one text each, many places."""
    zeros = pa.array(np.zeros(scores.num_rows, np.int32))
    for name, text in (("file", file), ("version", scoring.version)):
        scores = scores.append_column(
            name, pa.DictionaryArray.from_arrays(zeros, pa.array([text], pa.string()))
        )
    return scores.select(score_schema(scoring.bundle.contract).names)


def count_rows(scores: pa.Table) -> Counts:
    """Count rows with a prediction, and with reasons why they have none."""
    lengths = pc.list_value_length(scores["reasons"])
    num_rejected = pc.sum(pc.greater(lengths, 0)).as_py() or 0
    return Counts(scores.num_rows - num_rejected, num_rejected)


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

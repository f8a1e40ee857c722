"""Shape a table as people keep it into rows of a contract and outcomes: a pure step of reading.

Knows the contract and a file's spellings; knows nothing of Ray, of tables or of how files are
found. An outcome that stands in a row becomes an outcome of its own; a row without an id gets one
from what it holds; a row without a time gets that of its arrival. No row is dropped or doubled.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SecretBytes

from app.config import Config
from app.contracts.rows import TIMESTAMP, Column, Contract
from app.data.cells import cells_of_arrow, is_text
from app.data.pieces import Rows, SourceError
from app.data.snapshots import row_hashes
from app.data.spelling import is_flat, plain_numbers, plain_times, texts, tidy, without
from app.data.storage import DIGEST_CHARACTERS
from app.sections import InlineConfig
from app.security.secrets import pseudonym_key

ID_BYTES = 12
NEITHER = "neither positive nor negative: "


@dataclass(frozen=True)
class Inline:
    """How the files of one source become rows and outcomes; `at` is when they arrive.

    The key makes generated ids say nothing about the rows that they were made from. It is asked
    for where rows are read, so that it does not travel there.
    """

    contract: Contract
    config: InlineConfig
    key: Callable[[], SecretBytes]
    at: datetime

    @classmethod
    def of(cls, config: Config, at: datetime) -> "Inline | None":
        """Shape a model's files; None where they already are rows of the contract."""
        inline = config.source.inline
        if inline is None and not config.contract.generated:
            return None
        key = partial(pseudonym_key, config)
        return cls(config.contract, inline or InlineConfig(), key, at)

    @property
    def wanted(self) -> list[str]:
        """Columns that a file must have, as `names` calls them, beside the label."""
        return [name for name in self.contract.schema.names if name not in self.contract.generated]

    @property
    def holds_outcomes(self) -> bool:
        """Whether outcomes stand in the rows."""
        return self.config.label_column is not None

    def outcome_digest(self, delivery: str) -> str:
        """Name the outcomes in a delivery: other spellings or times of them are a new delivery."""
        chosen = {"label_column", "positive", "negative", "classes", "known_after_hours"}
        settings = self.config.model_dump_json(include=chosen)
        if self.contract.task != "binary":
            asked = {"task", "classes", "label_minimum", "label_maximum"}
            settings += self.contract.model_dump_json(include=asked)
            settings += self._number_style or ""
        return hashlib.sha256(f"{delivery} {settings}".encode()).hexdigest()[:DIGEST_CHARACTERS]

    @property
    def _number_style(self) -> str | None:
        """How the file writes outcomes that are numbers."""
        return self.config.numbers.get(self.config.label_column or "")

    @property
    def optional(self) -> list[str]:
        """Columns that a file may have beyond the wanted ones."""
        label = [self.config.label_column] if self.config.label_column else []
        return [*self.contract.generated, *self.config.ignore, *label]

    def names(self, header: Sequence[str]) -> list[str]:
        """Give the columns of a file the names that the contract has for them."""
        return [self.config.rename.get(name, tidy(name)) for name in header]

    def rows(self, read: Rows, path: str) -> Rows:
        """Give the rows of a piece the contract's columns, in the same order."""
        table = read.table.rename_columns(self.names(read.table.column_names))
        columns: list[Any] = [self._column(table, read, path, c) for c in self.contract.columns]
        shaped = pa.table(columns, names=self.contract.schema.names)
        return read._replace(table=shaped)

    def outcomes(self, read: Rows, path: str) -> Rows:
        """Give the outcomes that stand in the rows of a piece, for validate_labels.

        A row whose outcome is empty has none yet. One that is neither positive nor negative, or no
        class, or no number, comes out as it stands, to be refused. A line that is no row is told of
        with the rows.
        """
        assert self.config.label_column is not None
        table = read.table.rename_columns(self.names(read.table.column_names))
        given = table[self.config.label_column]
        if not is_flat(given.type):
            raise SourceError(
                f"{path}: {self.config.label_column} holds {given.type}, which is no outcome; "
                "name another source.inline.label_column"
            )
        label = blanked(given, self.config)
        there = label.is_valid()
        ids = texts(self._column(table, read, path, self.contract.by_name[self.contract.id]))
        known_at = self._known_at(table, read, path)
        outcomes = pa.table(
            {
                "row_id": ids,
                "label": self._outcomes(given, label),
                "void": pa.repeat("false", len(ids)),
                "known_at": known_at,
            }
        )
        places = read.positions[there.to_numpy(zero_copy_only=False)]
        return Rows(outcomes.filter(there), places, [], read.digest)

    def _outcomes(self, given: pa.ChunkedArray, label: pa.Array) -> pa.Array:
        """Write outcomes as validate_labels reads them; `label` is what was given, as texts."""
        if self.contract.task == "binary":
            return outcome_texts(label, self.config.positive, self.config.negative)
        if self.contract.task == "multiclass":
            return class_texts(label, self.config.classes)
        if not is_text(given.type) and not pa.types.is_dictionary(given.type):
            return given.combine_chunks()
        style = self._number_style
        return plain_numbers(label, style) if style else label

    def _column(self, table: pa.Table, read: Rows, path: str, column: Column) -> Any:
        if column.generated and column.name not in table.column_names:
            if column.name == self.contract.id:
                return self._ids(table, read, path)
            return pa.repeat(pa.scalar(self.at, TIMESTAMP), table.num_rows)
        return spelled(table[column.name], column, self.config)

    def _ids(self, table: pa.Table, read: Rows, path: str) -> pa.Array:
        """Name rows by what they hold, label and left columns apart: these may come later."""
        given = [n for n in self.wanted if n in table.column_names and is_flat(table[n].type)]
        hashes = row_hashes(pa.table({name: texts(table[name]) for name in given}))
        if not given:
            hashes = np.zeros((table.num_rows, 1), np.uint8)
        by_place = self.config.generated_id == "position"
        file = Path(path).name.encode() if by_place else b""
        places = read.positions if by_place else np.zeros(table.num_rows, np.int64)
        secret = hashlib.sha256(self.key().get_secret_value()).digest()
        ids = [
            hashlib.blake2b(
                bytes(row) + int(place).to_bytes(8, "little") + file,
                key=secret,
                digest_size=ID_BYTES,
            ).hexdigest()
            for row, place in zip(hashes, places, strict=True)
        ]
        return pa.array([f"r_{name}" for name in ids], pa.string())

    def _known_at(self, table: pa.Table, read: Rows, path: str) -> pa.Array:
        column = self.contract.by_name[self.contract.event_time]
        cells = self._column(table, read, path, column)
        times = cells_of_arrow(cells, column).array
        delay = pa.scalar(timedelta(hours=self.config.known_after_hours), pa.duration("us"))
        return pc.add(times, delay)


def spelled(values: pa.ChunkedArray, column: Column, config: InlineConfig) -> Any:
    """Read the cells of one column as a file spells them, for cells_of_arrow to take."""
    if is_text(values.type) or pa.types.is_dictionary(values.type):
        values = blanked(values, config)
    if column.kind == "time":
        reading = config.times.get(column.name)
        return values if reading is None else plain_times(values, reading)
    if column.kind != "number":
        return blanked(values, config)
    style = config.numbers.get(column.name)
    return plain_numbers(values, style) if style and is_text(values.type) else values


def blanked(values: pa.ChunkedArray, config: InlineConfig) -> Any:
    """Write cells as text, and nothing where the file spells nothing."""
    if not is_flat(values.type):
        return values  # Validation refuses these cells, and says why.
    return without(texts(values), ("", *config.nulls))


def outcome_texts(values: pa.Array, positive: Sequence[str], negative: Sequence[str]) -> pa.Array:
    """Write outcomes as 1 and 0; what is neither is written out, and is no number.

    >>> outcome_texts(pa.array(["M", "B", "?", None]), ["M"], ["B"]).to_pylist()
    ['1', '0', 'neither positive nor negative: ?', None]
    """
    meanings: Mapping[str, str] = {**dict.fromkeys(negative, "0"), **dict.fromkeys(positive, "1")}
    encoded = pc.dictionary_encode(values)
    written = [meanings.get(text, NEITHER + text) for text in encoded.dictionary.to_pylist()]
    return pa.array(written, pa.string()).take(encoded.indices)


def class_texts(values: pa.Array, spellings: Mapping[str, Sequence[str]]) -> pa.Array:
    """Write outcomes as the names of classes; a text that spells none stays as it stands.

    >>> class_texts(pa.array(["r", "green", None]), {"red": ["r", "R"]}).to_pylist()
    ['red', 'green', None]
    """
    meanings = {text: name for name, known in spellings.items() for text in known}
    encoded = pc.dictionary_encode(values)
    written = [meanings.get(text, text) for text in encoded.dictionary.to_pylist()]
    return pa.array(written, pa.string()).take(encoded.indices)

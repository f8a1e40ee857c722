"""Where scores are kept: each piece of a source is in once, whole, or not at all.

A folder of Parquet, on a disk or in a store, holds a file a piece; other kinds of sinks have files
of their own. Knows tables of scores and names of pieces; knows nothing of how scores come about, of
Ray or of roles.
"""

import contextlib
import os
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from app.data.deliveries import Mark, Position, done_mark, first_mark
from app.data.pieces import SourceError
from app.data.storage import beside, locate, open_file
from app.data.stores import first_line, shown
from app.serving.scoring import Counts, count_rows

FOOTER_READERS = 8
# What a sink calls the end of a range of a growing table that it began.
BEGUN = "begun "
SCORED, REJECTED = "mainspring.num_scored", "mainspring.num_rejected"


class Sink(Protocol):
    """Keeps scores by the names of their pieces. Is sent to whoever scores: it holds no handle."""

    @property
    def place(self) -> str:
        """Name where the scores are, without secrets."""

    def prepare(self, schema: pa.Schema) -> None:
        """Make the place. Raises SourceError for one that cannot keep such scores."""

    def found(self, names: Collection[str]) -> dict[str, Counts]:
        """Count the rows of those pieces that are in already."""

    def write(self, name: str, schema: pa.Schema, blocks: Iterable[pa.Table]) -> Counts:
        """Keep the scores of a piece, unless they are in by now."""

    def marks(self) -> dict[str, int]:
        """Give the numbers that were noted, by their names."""

    def note(self, marks: Mapping[str, int]) -> None:
        """Remember numbers for another run; only one run at a time notes any."""


def position_in(sink: Sink, version: str, key: str) -> Position:
    """Say how far a growing table is scored by a version."""
    marks = sink.marks()
    names = first_mark(key), done_mark(key), BEGUN + done_mark(key)
    return Position(*(marks.get(_own(name, version)) for name in names))


def note_begun(sink: Sink, version: str, marks: Iterable[Mark]) -> None:
    """Note, before anything is kept, what a run sets out to keep."""
    done = done_mark("")
    begun = {(BEGUN + name if name.startswith(done) else name): n for name, n in marks}
    _note(sink, version, begun)


def note_done(sink: Sink, version: str, marks: Iterable[Mark]) -> None:
    """Note that all of it is kept."""
    _note(sink, version, dict(marks))


def _note(sink: Sink, version: str, marks: Mapping[str, int]) -> None:
    known = sink.marks() if marks else {}
    named = {_own(name, version): number for name, number in marks.items()}
    news = {name: number for name, number in named.items() if known.get(name) != number}
    if news:
        sink.note(news)


def _own(name: str, version: str) -> str:
    return f"{name} {version[:16]}"


@dataclass(frozen=True)
class ParquetSink:
    """A folder or a prefix with a file of scores a piece, each written aside and renamed."""

    folder: str

    @property
    def place(self) -> str:
        """Name the folder."""
        return shown(self.folder)

    def path_of(self, name: str) -> str:
        """Name the file of a piece."""
        return beside(self.folder, f"{name}.parquet")

    def prepare(self, _schema: pa.Schema) -> None:
        """Make the folder, where there are folders."""
        store, folder = locate(self.folder)
        with self._explained():
            store.create_dir(folder)

    def found(self, names: Collection[str]) -> dict[str, Counts]:
        """Count from the footers of the files that are there."""
        store, folder = locate(self.folder)
        with self._explained():
            selector = pafs.FileSelector(folder, allow_not_found=True)
            listed = {info.base_name for info in store.get_file_info(selector) if info.is_file}
            there = [name for name in names if f"{name}.parquet" in listed]
            with ThreadPoolExecutor(FOOTER_READERS) as readers:
                return dict(zip(there, readers.map(self._count, there), strict=True))

    def write(self, name: str, schema: pa.Schema, blocks: Iterable[pa.Table]) -> Counts:
        """Write aside and rename: a second one of the same piece takes the place of the first."""
        store, path = locate(self.path_of(name))
        folder, _, file = path.rpartition("/")
        aside = f"{folder}/_{uuid.uuid4().hex}-{file}"
        with self._explained():
            with store.open_output_stream(aside, compression=None) as output:
                counts = write_scores(output, schema, blocks)
            _sync(store, aside)
            store.move(aside, path)
            _sync(store, folder)
        return counts

    def marks(self) -> dict[str, int]:
        """Read what was noted."""
        store, path = locate(self._notes)
        with self._explained():
            if store.get_file_info(path).type != pafs.FileType.File:
                return {}
            with open_file(self._notes) as file:
                noted: dict[str, int] = orjson.loads(file.read())
        return noted

    def note(self, marks: Mapping[str, int]) -> None:
        """Write the notes anew, aside and renamed."""
        store, path = locate(self._notes)
        with self._explained():
            aside = f"{path}-{uuid.uuid4().hex}"
            with store.open_output_stream(aside, compression=None) as output:
                output.write(orjson.dumps({**self.marks(), **marks}))
            _sync(store, aside)
            store.move(aside, path)

    @property
    def _notes(self) -> str:
        return beside(self.folder, "_positions.json")

    def _count(self, name: str) -> Counts:
        with open_file(self.path_of(name)) as file:
            opened = pq.ParquetFile(file)
            told = opened.metadata.metadata or {}
            if SCORED.encode() in told:
                return Counts(int(told[SCORED.encode()]), int(told[REJECTED.encode()]))
            # Written before footers said so.
            return count_rows(opened.read(columns=["reasons"]))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise SourceError(
                f"{self.place}: scores cannot be kept ({first_line(error)})"
            ) from error


def write_scores(output: Any, schema: pa.Schema, blocks: Iterable[pa.Table]) -> Counts:
    """Write blocks of scores as row groups of one Parquet file; its footer counts the rows."""
    counts = Counts(0, 0)
    with pq.ParquetWriter(
        output,
        _as_written(schema),
        # Tried on numbers and ids, a dictionary costs more than all the rest and saves nothing.
        use_dictionary=["file", "version", "predicted"],
        store_schema=False,
    ) as writer:
        for block in blocks:
            writer.write_table(block.cast(writer.schema))
            counts = Counts(*map(sum, zip(counts, count_rows(block), strict=True)))
        writer.add_key_value_metadata(
            {SCORED: str(counts.num_scored), REJECTED: str(counts.num_rejected)}
        )
    return counts


def _as_written(schema: pa.Schema) -> pa.Schema:
    """Let what is the same in all rows be written as one text."""
    one = pa.dictionary(pa.int32(), pa.string())
    for name in ("file", "version"):
        place = schema.get_field_index(name)
        schema = schema.set(place, schema.field(place).with_type(one))
    return schema


def _sync(store: pafs.FileSystem, path: str) -> None:
    if isinstance(store, pafs.LocalFileSystem):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

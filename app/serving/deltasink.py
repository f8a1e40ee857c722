"""Keep scores in a Delta table: a piece is one commit, and its name that commit's transaction.

Whoever comes second with a piece finds the transaction and adds nothing. Knows the Delta library
and tables of scores; knows nothing of how scores come about, or of Ray.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import orjson
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from app.data.commits import commit
from app.data.datafiles import DataFile
from app.data.pieces import SourceError
from app.data.storage import beside, locate, look_at
from app.data.stores import delta_place, first_line, shown
from app.serving.scoring import Counts
from app.serving.sinks import write_scores

COMMIT_ATTEMPTS = 100
# Their numbers are counts of rows.
SCORED, REJECTED = "scored:", "rejected:"
NOTED = "noted:"


@dataclass(frozen=True)
class DeltaSink:
    """A folder or URI with a Delta table of scores."""

    folder: str

    @property
    def place(self) -> str:
        """Name the table."""
        return shown(self.folder)

    def prepare(self, schema: pa.Schema) -> None:
        """Create the table, unless it is there."""
        self._open_or_create(schema)

    def found(self, names: Collection[str]) -> dict[str, Counts]:
        """Count from the numbers of the transactions that are in."""
        table = self._open()
        counts = {name: _counts(table, name) for name in names} if table is not None else {}
        return {name: each for name, each in counts.items() if each is not None}

    def write(self, name: str, schema: pa.Schema, blocks: Iterable[pa.Table]) -> Counts:
        """Write a file and commit it, unless the piece is in by then."""
        table = self._open_or_create(schema)
        before = _counts(table, name)
        if before is not None:
            return before
        file, counts = self._write(schema, blocks)
        for _ in range(COMMIT_ATTEMPTS):
            before = _counts(table, name)
            if before is not None:
                store, path = locate(beside(self.folder, file.path))
                store.delete_file(path)
                return before
            own = [(SCORED + name, counts.num_scored), (REJECTED + name, counts.num_rejected)]
            if commit(table, [file], own) is not None:
                return counts
            table = self._open_or_create(schema)
        raise SourceError(
            f"{self.place}: {COMMIT_ATTEMPTS} times somebody else committed first; run again"
        )

    def marks(self) -> dict[str, int]:
        """Read the numbers of those transactions that were noted."""
        table = self._open()
        noted = table.metadata().configuration if table is not None else {}
        return {
            name.removeprefix(NOTED): int(number)
            for name, number in noted.items()
            if name.startswith(NOTED)
        }

    def note(self, marks: Mapping[str, int]) -> None:
        """Set properties of the table."""
        table = self._open()
        if table is None:
            return
        table.alter.set_table_properties(
            {NOTED + name: str(number) for name, number in marks.items()},
            raise_if_not_exists=False,
        )

    def _open(self) -> DeltaTable | None:
        place, options = delta_place(self.folder)
        try:
            return DeltaTable(place, storage_options=options)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise self._unfit(first_line(error)) from error

    def _open_or_create(self, schema: pa.Schema) -> DeltaTable:
        table = self._open()
        if table is None:
            place, options = delta_place(self.folder)
            try:
                return DeltaTable.create(place, schema, mode="error", storage_options=options)
            except (DeltaError, CommitFailedError) as error:  # A race, if it is there now.
                table = self._open()
                if table is None:
                    raise self._unfit(first_line(error)) from error
        held = pa.schema(table.schema().to_arrow()).names
        if held != schema.names:
            raise self._unfit(
                f"it has columns {', '.join(held)} instead of {', '.join(schema.names)}; "
                "name another table"
            )
        return table

    def _write(self, schema: pa.Schema, blocks: Iterable[pa.Table]) -> tuple[DataFile, Counts]:
        path = f"part-{uuid.uuid4().hex}.parquet"
        uri = beside(self.folder, path)
        store, place = locate(uri)
        with store.open_output_stream(place, compression=None) as output:
            counts = write_scores(output, schema, blocks)
        found = look_at(uri)
        return DataFile(
            path=path,
            size=found.size,
            num_rows=sum(counts),
            modified_ms=found.modified // 10**6,
            stats=orjson.dumps({"numRecords": sum(counts)}).decode(),
        ), counts

    def _unfit(self, why: str) -> SourceError:
        return SourceError(f"{self.place}: scores cannot be kept in this Delta table ({why})")


def _counts(table: DeltaTable, name: str) -> Counts | None:
    num_scored, num_rejected = (
        table.transaction_version(kind + name) for kind in (SCORED, REJECTED)
    )
    if num_scored is None or num_rejected is None:
        return None
    return Counts(num_scored, num_rejected)

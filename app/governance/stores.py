"""Where rows of a subject are kept, and how each place forgets them.

A store counts, forgets, and says where something is left; asked again it does the same again. Knows
tables and spools; knows nothing of the order in which stores are asked or of receipts. A further
place (features, an online store) is one more class with these three methods.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from app.contracts.rows import Contract
from app.data.forgetting import ROW_ID, Mask, about_erased, captured_ids
from app.data.rewriting import rewrite_versions
from app.data.sealing import key_of
from app.data.tables import TableName, Tables
from app.governance.needles import Needles
from app.security.keyring import Keyring
from app.security.tombstones import Tombstones
from app.serving.segments import CLOSED, DAMAGED, OPEN, read_segment

# What tells two rows of a table apart: a row counts once, in however many files it is.
KEYS: dict[TableName, tuple[str, ...]] = {
    "events": ("prediction_time", "source"),
    "predictions": ("prediction_id",),
    "shadows": ("prediction_id",),
    "labels": (ROW_ID, "label", "known_at", "received_at"),
    "quarantine": ("row", "position", "source"),
}


class Store(Protocol):
    """A place that may hold something of a subject."""

    name: str

    def count(self, erased: Tombstones) -> int:
        """Count what is there of erased subjects and rows."""
        ...

    def forget(self, erased: Tombstones) -> None:
        """Take it away for good; what is of others stays as it is."""
        ...

    def remains(self, needles: Needles) -> list[str]:
        """Name the places that still hold something, without saying whose."""
        ...


class TableStore:
    """One Delta table, in all its versions and its log."""

    def __init__(self, tables: Tables, name: TableName) -> None:
        self.name: str = name
        self._table: TableName = name
        self._tables = tables

    def count(self, erased: Tombstones) -> int:
        """Count distinct rows in all versions."""
        contract, found = self._tables.contract, set[tuple[object, ...]]()
        keys = KEYS[self._table] if self._table != "events" else (contract.id, *KEYS["events"])

        def look(part: pa.Table) -> None:
            rows = part.filter(pa.array(self._about(part, erased))).select(list(keys))
            found.update(tuple(row.values()) for row in rows.to_pylist())

        look_through(self._tables, self._table, look)
        return len(found)

    def forget(self, erased: Tombstones) -> None:
        """Drop the rows from every file of every version."""
        rewrite_versions(self._tables, self._table, lambda part: ~self._about(part, erased))

    def remains(self, needles: Needles) -> list[str]:
        """Look through every file again."""
        return [f"tables/{self.name}"] if self.count(needles.erased) else []

    def _about(self, part: pa.Table, erased: Tombstones) -> Mask:
        return about_erased(self._table, part, self._tables.contract, erased)


def look_through(tables: Tables, name: TableName, look: Callable[[pa.Table], None]) -> None:
    """Show the rows of every file that any version of a table names, part by part."""

    def keep_all(part: pa.Table) -> Mask:
        look(part)
        return np.ones(part.num_rows, bool)

    rewrite_versions(tables, name, keep_all)


class SpoolStore:
    """Captured rows that are not in the tables, and segments that were damaged."""

    name = "spool"

    def __init__(self, root: Path, contract: Contract, keyring: Keyring | None = None) -> None:
        self._root = root
        self._contract = contract
        self._keyring = keyring

    def count(self, erased: Tombstones) -> int:
        """Count rows that can be read, and segments of which nobody can tell whom they name."""
        unclear = sum(map(_is_unclear, self.segments(DAMAGED)))
        return unclear + sum(self._count(path, erased) for path in self.segments())

    def forget(self, erased: Tombstones) -> None:
        """Delete damaged segments that name an erased subject: nobody can part their rows.

        Of a sealed one nobody can tell what its damaged part says: it goes, whomever it names.
        Whole segments are shipped without the rows, by whoever ships them.
        """
        needles = Needles(erased)
        for path in self.segments(DAMAGED):
            if _is_unclear(path) or needles.are_in_file(path) or self._count(path, erased):
                path.unlink()

    def remains(self, needles: Needles) -> list[str]:
        """Look into every segment, as rows and as bytes."""
        return [
            f"spool/{path.relative_to(self._root)}"
            for path in self.segments()
            if _is_unclear(path) or self._count(path, needles.erased) or _holds(path, needles)
        ]

    def segments(self, *endings: str) -> Iterator[Path]:
        """List the segment files that are there."""
        for ending in endings or (OPEN, CLOSED, DAMAGED):
            yield from sorted(self._root.glob(f"*/*{ending}"))

    def row_ids(self, erased: Tombstones) -> frozenset[str]:
        """Give the ids of captured rows that are about erased subjects."""
        parts = (captured_ids(self._read(path), self._contract, erased) for path in self.segments())
        return frozenset[str]().union(*parts)

    def holding(self, erased: Tombstones) -> list[Path]:
        """List whole segments that hold rows of erased subjects."""
        return [path for path in self.segments(OPEN, CLOSED) if self._count(path, erased)]

    def _count(self, path: Path, erased: Tombstones) -> int:
        rows = self._read(path)
        masks = (
            about_erased(name, table, self._contract, erased)  # type: ignore[arg-type]
            for name, table in rows.items()
        )
        return sum(int(mask.sum()) for mask in masks)

    def _read(self, path: Path) -> dict[str, pa.Table]:
        try:
            return read_segment(path, self._keyring).tables
        except FileNotFoundError:
            # Shipped meanwhile.
            return {}


def _is_unclear(path: Path) -> bool:
    """Tell whether a segment is both damaged and sealed: its bytes say nothing."""
    return path.suffix == DAMAGED and key_of(path.name) is not None


def _holds(path: Path, needles: Needles) -> bool:
    try:
        return needles.are_in_file(path)
    except FileNotFoundError:
        return False

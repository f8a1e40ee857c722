"""Blocks stay within limits, and dividing them loses and changes no row."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.data import pieces
from app.data.pieces import Limits, Rows, within_limits

LIMITS = Limits(max_cell_bytes=20)
BLOCK = 100
texts = st.lists(st.none() | st.text("ab", max_size=30), min_size=1, max_size=40)


def rows_of(cells: list[str | None], encoded: bool) -> Rows:
    column = pa.array(cells, pa.string())
    table = pa.table({"note": column.dictionary_encode() if encoded else column})
    return Rows(table, np.arange(len(cells), dtype=np.int64) + 7, [], "d")


@given(cells=texts, encoded=st.booleans(), stays=st.booleans())
def test_every_row_is_in_a_block_or_broken(
    cells: list[str | None], encoded: bool, stays: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "BLOCK_BYTES", BLOCK)
        parts = list(within_limits(rows_of(cells, encoded), LIMITS, ["note"] if stays else []))
    kept = {p: c for part in parts for p, c in zip(part.positions, _cells(part), strict=True)}
    broken = {place for part in parts for place, _ in part.broken}
    huge = {i + 7 for i, cell in enumerate(cells) if len(cell or "") > LIMITS.max_cell_bytes}
    assert broken == huge
    assert kept == {i + 7: cell for i, cell in enumerate(cells) if i + 7 not in huge}
    if not stays:
        sizes = [sum(len(cell or "") for cell in _cells(part)) for part in parts]
        assert max(sizes) <= BLOCK + LIMITS.max_cell_bytes


def test_dictionaries_that_stay_are_not_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "BLOCK_BYTES", BLOCK)
    rows = rows_of(["ten bytes."] * 1000, encoded=True)
    assert len(list(within_limits(rows, LIMITS, ["note"]))) == 1
    assert len(list(within_limits(rows, LIMITS))) > 50


def _cells(rows: Rows) -> list[str | None]:
    cells: list[str | None] = rows.table["note"].to_pylist()
    return cells

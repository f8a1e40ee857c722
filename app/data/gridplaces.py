"""Place the numbers of many columns at once, to the bits that each column alone comes to.

A thousand values are placed in less time than numpy takes to be called a dozen times, so columns
that have grids are stacked and go through each operation together. Knows arrays and places; knows
nothing of tables or what a place is for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.data.places import Places

# So many rows of a few dozen columns at a time stay in the processor's caches.
BLOCK = 1024


class GridPlaces:
    """The places of several columns: those with a grid together, the others one by one."""

    def __init__(self, columns: Sequence[tuple[Places, float]]) -> None:
        """Take each column's places, and what a null becomes."""
        self._columns = list(columns)
        self._together = [i for i, (places, _) in enumerate(columns) if places.has_grid]
        # Columns that stand together are written together.
        is_run = self._together == list(range(len(self._together)))
        self._there: Any = slice(len(self._together)) if is_run else self._together
        self._alone = [i for i in range(len(columns)) if i not in set(self._together)]
        laid = [columns[i][0] for i in self._together]
        self._first_F1 = np.array([[each.edges[0]] for each in laid])
        self._last_F1 = np.array([[each.edges[-1]] for each in laid])
        self._scale_F1 = np.array([[each.scale] for each in laid])
        self._null_F1 = np.array([[columns[i][1]] for i in self._together])
        self._cells_F1, cells = _joined([each.bins_of_cells for each in laid])
        # Edges, slopes and bins stand one column behind the other, and so do a column's cells.
        starts_F1, self._edges = _joined([each.edges for each in laid])
        self._slopes = np.concatenate([np.empty(0), *(each.slopes for each in laid)])
        self._bins = np.concatenate([np.empty(0), *(np.arange(len(e.edges)) for e in laid)])
        lengths = [len(each.bins_of_cells) for each in laid]
        self._edge_of_cell = cells + np.repeat(starts_F1[:, 0], lengths)

    def place(self, columns: Sequence[NDArray[np.float64]], out_BF: NDArray[Any]) -> None:
        """Write the places of columns [B] into an array [B, F]; a NaN is a null."""
        for i in self._alone:
            places, null = self._columns[i]
            places.many(columns[i], out_BF[:, i], null)
        if not self._together:
            return
        for start in range(0, len(out_BF), BLOCK):
            rows = slice(start, start + BLOCK)
            placed_FB = self._placed(np.stack([columns[i][rows] for i in self._together]))
            out_BF[rows, self._there] = placed_FB.T

    def _placed(self, values_FB: NDArray[np.float64]) -> NDArray[np.float64]:
        """Do with all columns what Places does with one, operation by operation."""
        placed_FB: NDArray[np.float64] = np.minimum(
            np.maximum(values_FB, self._first_F1), self._last_F1
        )
        is_null_FB = np.isnan(placed_FB)
        has_nulls = bool(is_null_FB.any())
        if has_nulls:
            np.copyto(placed_FB, self._first_F1, where=is_null_FB)
        cells_FB = ((placed_FB - self._first_F1) * self._scale_F1).astype(np.intp)
        cells_FB += self._cells_F1
        edges_FB = self._edge_of_cell.take(cells_FB, mode="clip")
        # Of the one edge that a cell may have, the value may still be on the left.
        edges_FB -= placed_FB < self._edges.take(edges_FB, mode="clip")
        placed_FB -= self._edges.take(edges_FB, mode="clip")
        placed_FB *= self._slopes.take(edges_FB, mode="clip")
        placed_FB += self._bins.take(edges_FB, mode="clip")
        if has_nulls:
            np.copyto(placed_FB, self._null_F1, where=is_null_FB)
        return placed_FB


def _joined(parts: Sequence[NDArray[Any]]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Put arrays one behind the other; the first are their beginnings [F, 1]."""
    lengths = [len(part) for part in parts]
    starts = np.cumsum([0, *lengths], dtype=np.intp)[:-1]
    return starts[:, None], np.concatenate(parts) if parts else np.empty(0, np.intp)

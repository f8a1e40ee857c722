"""Place numbers among ascending edges, linearly within a bin: many or one, to the same bits.

Knows floats; knows nothing of columns, tables or what a place is for.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# So many values at a time, and the cells of a grid, stay in the processor's nearest caches.
BLOCK = 4096
CELLS = (256, 1024, 4096, 16384)


class Places:
    """The broken line through (edge i, i).

    A value at or under the first edge has place 0, one at or over the last has the number of bins,
    and in bin i it is slope i × (value − edge i) + i. Each operation is rounded to a double on its
    own, so that one value and many come to the same bits, which are those of np.interp.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        """Take ascending, distinct, finite edges; with fewer than two every place is 0."""
        self.edges = np.array(edges, np.float64)
        self._num_bins = max(len(edges) - 1, 0)
        with np.errstate(over="ignore"):
            slopes = 1.0 / np.diff(self.edges)
        # Edges next to each other, or too far apart for a double, need np.interp's care.
        self._plain = bool((np.isfinite(slopes) & (slopes > 0)).all())
        self.slopes = np.append(slopes, 0.0)
        self._edge_list: list[float] = self.edges.tolist()
        self._slope_list: list[float] = self.slopes.tolist()
        self.scale, found = _grid(self.edges) if self._num_bins else (0.0, None)
        self._has_cells = found is not None
        self.bins_of_cells = np.empty(0, np.intp) if found is None else found

    @property
    def has_grid(self) -> bool:
        """Whether a grid of cells leads to the bins: see `edges`, `slopes`, `bins_of_cells`."""
        return self._plain and self._has_cells

    def many(self, values: NDArray[np.float64], out: NDArray[Any], null: float) -> None:
        """Write the places of values into an array of floats, `null` where a value is NaN."""
        for i in range(0, len(values), BLOCK):
            placed = self._block(values[i : i + BLOCK])
            np.copyto(placed, null, where=np.isnan(placed))
            out[i : i + BLOCK] = placed

    def one(self, value: float) -> float:
        """Give the place of one value, which is no NaN."""
        edges = self._edge_list
        if not self._num_bins or value <= edges[0]:
            return 0.0
        if value >= edges[-1]:
            return float(self._num_bins)
        if not self._plain:
            return float(self._interpolated(np.array([value]))[0])
        i = bisect_right(edges, value) - 1
        return self._slope_list[i] * (value - edges[i]) + i

    def _block(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self._num_bins:
            return np.where(np.isnan(values), np.nan, 0.0)
        if not self._plain:
            return self._interpolated(values)
        placed: NDArray[np.float64] = np.clip(values, self.edges[0], self.edges[-1])
        bins = self._bins(placed)
        placed -= self.edges.take(bins)
        placed *= self.slopes.take(bins)
        placed += bins
        return placed

    def _bins(self, values: NDArray[np.float64]) -> NDArray[np.intp]:
        """Find the bin of each value, any bin for NaN."""
        if not self._has_cells:
            return np.searchsorted(self.edges, values, side="right").astype(np.intp) - 1
        with np.errstate(invalid="ignore"):
            cells = ((values - self.edges[0]) * self.scale).astype(np.int32)
        bins: NDArray[np.intp] = self.bins_of_cells.take(cells, mode="clip")
        # Of the one edge that a cell may have, the value may still be on the left.
        bins -= values < self.edges.take(bins)
        return bins

    def _interpolated(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        placed: NDArray[np.float64] = np.interp(values, self.edges, np.arange(self._num_bins + 1.0))
        return placed


@lru_cache(maxsize=4096)
def places_of(edges: tuple[float, ...]) -> Places:
    """Return the places of some edges, made once."""
    return Places(edges)


def _grid(edges: NDArray[np.float64]) -> tuple[float, NDArray[np.intp] | None]:
    """Lay a grid of equal cells over the edges, each with one edge at most, if a few do.

    A cell's number is one that never falls while values rise, whatever is rounded on the way: the
    edges of lower cells are at or under a value, those of higher cells over it.
    """
    with np.errstate(over="ignore"):
        spread = float(edges[-1] - edges[0])
    for num_cells in CELLS:
        scale = num_cells / spread
        if not 0 < scale < np.inf:
            break
        cells = ((edges - edges[0]) * scale).astype(np.int32)
        if (np.diff(cells) > 0).all():
            every = np.arange(cells[-1] + 1)
            return scale, np.searchsorted(cells, every, side="right") - 1
    return 0.0, None

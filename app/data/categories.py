"""One category: from counts to a vocabulary, and from texts to codes.

The most frequent values have codes of their own. All others share one, or several by a hash: then a
model learns something of values that are each too rare, and new ones get what others learned. Knows
columns of texts and counts; knows nothing of other columns.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from app.contracts.rows import Frozen
from app.data.buckets import Buckets
from app.data.statistics import CategoryCounts
from app.sections import FeaturesConfig

UNSEEN, NULL, FIRST_KNOWN = 0, 1, 2
# So many values on average leave one bucket of fifty empty.
VALUES_A_BUCKET = 4


class Codes(dict[str | None, int]):
    """The code of every known value, and by way of `[]` of any other."""

    def __init__(self, known: Mapping[str | None, int], beyond: Callable[[str], int]) -> None:
        """Take codes, and what gives the code of a value that has none."""
        super().__init__(known)
        self._beyond = beyond

    def __missing__(self, value: str) -> int:
        """Give the code of a value outside the vocabulary."""
        return self._beyond(value)


class CategoryFeature(Frozen):
    """One category: its vocabulary in alphabetical order, and buckets for all other values."""

    name: str
    vocabulary: tuple[str, ...]
    # Absent from the JSON when there are none: such an encoder is the same bytes as ever.
    num_buckets: int = Field(0, ge=0, exclude_if=lambda number: not number)

    @classmethod
    def fit(cls, name: str, counts: CategoryCounts, config: FeaturesConfig) -> Self:
        """Choose a vocabulary, and how many buckets for the rest, from counts alone."""
        frequent = [
            (-n, value) for value, n in counts.counts.items() if n >= config.min_category_count
        ]
        chosen = sorted(frequent)[: config.max_categories]
        vocabulary = tuple(sorted(value for _, value in chosen))
        # A code that no row of training has keeps its random first weights: no more than there are
        # values and rows to train.
        num_values = len(counts.counts) - len(chosen)
        num_rows = counts.counts.total() + sum(n for n, _ in chosen)
        trained = min(num_values // VALUES_A_BUCKET, num_rows // config.min_category_count)
        num_buckets = min(config.hash_buckets, trained)
        return cls(name=name, vocabulary=vocabulary, num_buckets=num_buckets)

    @cached_property
    def _value_set(self) -> pa.Array:
        return pa.array([None, *self.vocabulary], pa.string())

    @cached_property
    def code_of(self) -> Codes:
        """The code of each value that is null or in the vocabulary, and with `[]` of any."""
        known = enumerate([None, *self.vocabulary], NULL)
        return Codes({value: code for code, value in known}, self.beyond)

    @property
    def num_codes(self) -> int:
        """Number of codes, unseen, null and buckets included."""
        return FIRST_KNOWN + len(self.vocabulary) + self.num_buckets

    def codes(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        """Place values: 0 unseen, 1 null, then the vocabulary, then the buckets if there are any.

        Of dictionaries only the distinct values are looked up, and only those are hashed.
        """
        if pa.types.is_dictionary(column.type):
            parts = [self._codes_of_dictionary(chunk) for chunk in column.chunks]
            return np.concatenate([np.empty(0, np.int64), *parts])
        found = pc.index_in(column, value_set=self._value_set)
        codes: NDArray[np.int64] = pc.fill_null(found, -1).to_numpy().astype(np.int64) + NULL
        if self.num_buckets:
            others = np.flatnonzero(codes == UNSEEN)
            codes[others] = self._hashed(column.take(pa.array(others)))
        return codes

    def _hashed(self, others: pa.ChunkedArray) -> NDArray[np.int64]:
        distinct = pc.dictionary_encode(others.combine_chunks())
        codes = np.array([self.beyond(text) for text in distinct.dictionary.to_pylist()], np.int64)
        hashed: NDArray[np.int64] = codes.take(distinct.indices.to_numpy())
        return hashed

    def beyond(self, text: str) -> int:
        """Give the code of a value outside the vocabulary."""
        if not self.num_buckets:
            return UNSEEN
        return FIRST_KNOWN + len(self.vocabulary) + self._buckets.one(text)

    @cached_property
    def _buckets(self) -> Buckets:
        return Buckets(self.name, self.num_buckets)

    def _codes_of_dictionary(self, chunk: pa.DictionaryArray) -> NDArray[np.int64]:
        # A null's index is put behind the last one.
        distinct = np.append(self.codes(pa.chunked_array([chunk.dictionary])), NULL)
        indices: NDArray[np.int32] = chunk.indices.fill_null(len(chunk.dictionary)).to_numpy()
        return distinct.take(indices)

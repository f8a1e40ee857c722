"""Predict many rows with a tabular network that will not learn any more.

A number's bins are a broken line: what they add to the first layer is one stretch of a table
between two of its rows. So the widened row, mostly ones and zeros, and its product with the first
matrices are never made; for every number two rows of a table are weighed, for every category one is
taken, and all are summed. On 30 columns this is a third of the work. Figures differ from the
network's own by the rounding of float32; the tables are made in float64.

Knows arrays and tensors; knows nothing of rows, training or files.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from app.data.features import Encoded, InputShape

# Beyond a few hundred outputs the tables leave the processor's caches, and a product is faster.
MOST_OUTPUTS = 512
# So many rows at a time keep what lies between two layers within the caches.
TILE_ROWS = 4096


class GatheredNetwork:
    """What a TabularNetwork computes in evaluation up to its last hidden layer, for many rows."""

    def __init__(
        self,
        shape: InputShape,
        embeddings: Sequence[Tensor],
        layers: Sequence[tuple[Tensor, Tensor]],
    ) -> None:
        """Take the embeddings of each category, and folded matrices [K, I, O] and biases [K, O]."""
        (first, bias), *self._rest = layers
        self._num_members, self._bias = len(first), bias.flatten()
        weight_IO = first.permute(1, 0, 2).flatten(1).double()
        tables: list[Tensor] = []
        starts, place = [], 0
        for num_bins in shape.num_bins:
            starts.append(_rows(tables))
            bins = weight_IO[place : place + num_bins]
            # At place i of a number the first i bins are full. The last row is there twice, so that
            # each has a next one.
            line = torch.cat([torch.zeros_like(weight_IO[:1]), bins.cumsum(0)])
            tables += [line, line[-1:]]
            place += num_bins
        nulls = []
        for has_null in shape.has_null:
            nulls.append(_rows(tables))
            # A null has a row of its own; where training has seen none, there is no null.
            tables += [weight_IO[place : place + 1]] * (2 if has_null else 0)
            place += has_null
        codes = []
        for embedding_CE in embeddings:
            codes.append(_rows(tables))
            width = embedding_CE.shape[1]
            tables.append(embedding_CE.double() @ weight_IO[place : place + width])
            place += width
        self._table = torch.cat(tables).float().contiguous()
        self._starts, self._nulls = np.array(starts, np.int32), np.array(nulls, np.int32)
        self._codes = np.array(codes, np.int32)

    def hidden(self, encoded: Encoded, first: int, last: int) -> Tensor:
        """Give the last hidden layer [K, B, H] of some rows; call it in inference mode."""
        numbers_BF = encoded.numbers[first:last]
        size, num_numbers = numbers_BF.shape
        width = 2 * num_numbers + len(self._codes)
        places_BG = np.empty((size, width), np.int32)
        shares_BG = np.ones((size, width), np.float32)
        lower_BF, upper_BF = places_BG[:, :num_numbers], places_BG[:, num_numbers : 2 * num_numbers]
        whole_BF = numbers_BF.astype(np.int32)
        upper_share_BF = numbers_BF - whole_BF
        np.add(whole_BF, self._starts, out=lower_BF)
        is_null = numbers_BF < 0
        if is_null.any():
            np.copyto(lower_BF, self._nulls, where=is_null)
            upper_share_BF[is_null] = 0
        np.add(lower_BF, 1, out=upper_BF)
        shares_BG[:, num_numbers : 2 * num_numbers] = upper_share_BF
        np.subtract(1, upper_share_BF, out=shares_BG[:, :num_numbers])
        np.add(encoded.categories[first:last], self._codes, out=places_BG[:, 2 * num_numbers :],
               casting="unsafe")  # fmt: skip
        hidden = F.embedding_bag(
            torch.from_numpy(places_BG), self._table, mode="sum",
            per_sample_weights=torch.from_numpy(shares_BG),
        )  # fmt: skip
        hidden += self._bias
        hidden_KBH = hidden.view(size, self._num_members, -1).relu_().transpose(0, 1)
        for weight_KHO, bias_KO in self._rest:
            hidden_KBH = torch.baddbmm(bias_KO[:, None], hidden_KBH, weight_KHO).relu_()
        return hidden_KBH


def fits(num_outputs: int, shape: InputShape) -> bool:
    """Tell whether gathering pays for a first layer of so many outputs, of all members together."""
    return num_outputs <= MOST_OUTPUTS and bool(shape.num_bins or shape.num_categories)


def _rows(tables: Sequence[Tensor]) -> int:
    return sum(len(each) for each in tables)

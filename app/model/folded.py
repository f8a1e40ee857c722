"""Answer a few rows with a tabular network that will not learn any more.

Its members' factors are folded into their matrices once, and a served row goes through them as
numpy arrays: the dispatch of some thirty small torch operations costs twice what they compute, and
folding for every row ten times. Figures differ from the network's own by the rounding of float32.
Knows arrays; knows nothing of rows, training or files.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from app.data.features import Encoded
from app.data.rowwise import FEW_ROWS

Floats = NDArray[np.float32]


class FoldedNetwork:
    """What a TabularNetwork computes in evaluation, for up to MOST rows."""

    MOST = FEW_ROWS

    def __init__(
        self,
        widening_D: tuple[Tensor, Tensor, Tensor],
        codes: tuple[Tensor, Tensor],
        layers: Sequence[tuple[Tensor, Tensor]],
        head: tuple[Tensor, Tensor],
    ) -> None:
        """Take source, sign and offset of wide columns, first codes and embeddings, and layers.

        A layer is folded matrices [K, I, O] and biases [K, O]; the head is one too.
        """
        self._source, self._sign, self._offset = map(_array, widening_D)
        self._first_code, self._embedding = map(_array, codes)
        (first, bias), *rest = layers
        # All members read the same input: their first matrices stand side by side.
        self._first = _array(first.permute(1, 0, 2).flatten(1))
        self._first_bias, self._num_members = _array(bias.flatten()), len(bias)
        self._rest = [(_array(folded), _array(bias)[:, None]) for folded, bias in rest]
        self._head, self._head_bias = map(_array, head)

    def logits(self, encoded: Encoded) -> Floats:
        """Give logits [B, K, O] of K members and O outputs."""
        size = len(encoded)
        inputs_BI = np.empty((size, len(self._first)), np.float32)
        wide_BD = inputs_BI[:, : len(self._source)]
        np.multiply(encoded.numbers[:, self._source], self._sign, out=wide_BD)
        wide_BD += self._offset
        np.maximum(wide_BD, 0, out=wide_BD)
        np.minimum(wide_BD, 1, out=wide_BD)
        embedded = self._embedding[encoded.categories + self._first_code]
        # Not -1: of no rows numpy cannot tell how wide they are.
        rest = len(self._first) - len(self._source)
        inputs_BI[:, len(self._source) :] = embedded.reshape(size, rest)
        hidden = inputs_BI @ self._first
        hidden += self._first_bias
        each = hidden.shape[1] // self._num_members
        hidden_KBH = hidden.reshape(size, self._num_members, each).transpose(1, 0, 2)
        np.maximum(hidden_KBH, 0, out=hidden_KBH)
        for weight_KHO, bias_K1O in self._rest:
            hidden_KBH = np.matmul(hidden_KBH, weight_KHO)
            hidden_KBH += bias_K1O
            np.maximum(hidden_KBH, 0, out=hidden_KBH)
        logits_KBO = np.matmul(hidden_KBH, self._head)
        logits: Floats = logits_KBO.transpose(1, 0, 2) + self._head_bias
        return logits


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().contiguous().numpy()
    return array

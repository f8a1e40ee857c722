"""The published TabM, from the package of its authors, as a user's module of the product.

It takes the product's positions among quantile edges: a piecewise-linear embedding whose edges are
0, 1, 2 … encodes them as it would the numbers themselves. A null is 0 there, and a category of two
values says so, as the package knows no nulls. Sizes are those of the product's own network; what is
learned by which optimizer on which batches is the product's affair for both.
"""

from typing import cast

import tabm
import torch
from rtdl_num_embeddings import PiecewiseLinearEmbeddings
from torch import Tensor, nn

from app.data.features import InputShape

EMBEDDING = 16  # What the authors' examples take.


class PublishedTabM(nn.Module):
    """Logits [B, K, O]."""

    def __init__(
        self,
        shape: InputShape,
        num_outputs: int,
        *,
        hidden: int,
        num_layers: int,
        num_members: int,
        dropout: float,
    ) -> None:
        """Make the network."""
        super().__init__()
        edges = [torch.arange(number + 1, dtype=torch.float32) for number in shape.num_bins]
        nullable = [i for i, has_null in enumerate(shape.has_null) if has_null]
        self.register_buffer("nullable", torch.tensor(nullable, dtype=torch.int64))
        self.network = tabm.TabM.make(
            n_num_features=len(edges),
            cat_cardinalities=[*shape.num_categories, *([2] * len(nullable))],
            d_out=num_outputs,
            num_embeddings=PiecewiseLinearEmbeddings(
                edges, EMBEDDING, activation=False, version="B"
            )
            if edges
            else None,
            d_block=hidden,
            n_blocks=num_layers,
            k=num_members,
            dropout=dropout,
        )

    def forward(self, numbers_BF: Tensor, categories_BC: Tensor) -> Tensor:
        """Give the members' logits."""
        missing_BN = (numbers_BF[:, self.get_buffer("nullable")] < 0).long()
        codes = torch.cat([categories_BC.long(), missing_BN], dim=1)
        numbers = numbers_BF.clamp_min(0) if numbers_BF.shape[1] else None
        return cast(Tensor, self.network(numbers, codes if codes.shape[1] else None))

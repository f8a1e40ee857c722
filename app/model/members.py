"""A linear layer of several members that share a matrix and differ by vectors.

Sources: Gorishniy et al., TabM (2025) and Wen et al., BatchEnsemble (2020). Knows tensors; knows
nothing of networks.
"""

import math

import torch
from torch import Tensor, nn


class MemberLinear(nn.Module):
    """A linear layer of K members that share a matrix.

    A member has of its own a factor for each input and each output, and a bias.
    The factors are folded into K matrices before the product. That costs K * inputs * outputs
    multiplications a batch and saves K copies of the batch, forward and backward.
    """

    def __init__(
        self, num_inputs: int, num_outputs: int, num_members: int, spread: bool = False
    ) -> None:
        """Start members apart by random signs on the inputs when spread is set, else equal."""
        super().__init__()
        bound = 1 / math.sqrt(num_inputs)
        self.weight = nn.Parameter(torch.empty(num_inputs, num_outputs).uniform_(-bound, bound))
        self.bias_KO = nn.Parameter(
            torch.empty(num_outputs).uniform_(-bound, bound).repeat(num_members, 1)
        )
        if num_members == 1:
            self.register_parameter("factor_KI", None)
            self.register_parameter("factor_KO", None)
            return
        ones = torch.ones(num_members, num_inputs)
        self.factor_KI = nn.Parameter(torch.randint(0, 2, ones.shape) * 2.0 - 1 if spread else ones)
        self.factor_KO = nn.Parameter(torch.ones(num_members, num_outputs))

    def forward(self, x_KBI: Tensor) -> Tensor:
        """Map each member's own input [K, B, I] to [K, B, O]."""
        return torch.baddbmm(self.bias_KO[:, None], x_KBI, self.folded())

    def from_shared(self, *parts_BI: Tensor) -> Tensor:
        """Map an input that all members share, given in parts side by side, to [B, K, O].

        A part that needs no gradient gets none: three quarters of the backward pass of the first
        layer.
        """
        folded_IKO = self.folded().permute(1, 0, 2).flatten(1)
        total, first = self.bias_KO.flatten(), 0
        for part in parts_BI:
            last = first + part.shape[1]
            total = torch.addmm(total, part, folded_IKO[first:last])
            first = last
        return total.view(-1, *self.bias_KO.shape)

    def folded(self) -> Tensor:
        """Give the matrix of each member, or of all that differ in nothing: [K, I, O]."""
        if self.factor_KI is None:
            return self.weight[None]
        return self.weight * self.factor_KI[:, :, None] * self.factor_KO[:, None, :]

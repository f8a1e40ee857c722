"""Average a network's weights over its last steps: the average is what is judged and kept.

Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992), in its
exponential form. The rows of one day share their weather, so that ninety days are few however many
rows they hold, and single steps chase single days; on flights the average gains as much ROC-AUC as
doubling the members does (docs/log.md).
"""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential average of a network's parameters, updated after each optimizer step."""

    def __init__(
        self, network: nn.Module, decay: float, num_steps: int, start: Mapping[str, Tensor]
    ) -> None:
        """Begin with the network's own weights, or go on from `start` after `num_steps` updates."""
        self._decay, self._num_steps = decay, num_steps
        self._network = network
        # A parameter with two names is averaged under both.
        self._named = dict(network.named_parameters(remove_duplicate=False))
        self._own = [parameter.detach() for parameter in self._named.values()]
        self._average = [
            start[name].to(own.device).clone() if start else own.clone()
            for name, own in zip(self._named, self._own, strict=True)
        ]

    def update(self) -> None:
        """Take in the current weights; early steps weigh more, so that the start is forgotten."""
        self._num_steps += 1
        decay = min(self._decay, self._num_steps / (self._num_steps + 10))
        torch._foreach_lerp_(self._average, self._own, 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the network carry the average for the length of a `with` block."""
        kept = [own.clone() for own in self._own]
        self._write(self._average)
        try:
            yield
        finally:
            self._write(kept)

    def tensors(self) -> dict[str, Tensor]:
        """Copy a whole state of the network to the CPU: the average, and buffers as they stand.

        A buffer is an average of its own, such as the means of a batch normalisation, or constant.
        """
        averaged = dict(zip(self._named, self._average, strict=True))
        state = {**self._network.state_dict(), **averaged}
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def _write(self, values: list[Tensor]) -> None:
        for own, value in zip(self._own, values, strict=True):
            own.copy_(value)

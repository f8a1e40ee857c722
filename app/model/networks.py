"""Networks over encoded rows: our own tabular one, and a user's own module by its import path.

The tabular network has piecewise-linear numbers, embeddings, and an ensemble that shares its
weights; with one member it is a plain MLP.

Source of the piecewise-linear encoding: Gorishniy et al., On embeddings for numerical features
(2022). Knows tensors and widths; knows nothing of columns, labels or
training.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, nn

from app.data.features import NULL_POSITION, Encoded, InputShape
from app.data.rowwise import FEW_ROWS
from app.model.folded import FoldedNetwork
from app.model.gathered import TILE_ROWS, GatheredNetwork, fits
from app.model.members import MemberLinear
from app.model.modules import load_module
from app.model.tasks import BinaryTask, LearningTask, task_from
from app.sections import NetworkConfig

assert NULL_POSITION == -1.0  # The widening below relies on it.
WEIGHTS = "weights.safetensors"
# Keeps the widened batch within the processor's cache and memory bounded for any table.
PREDICT_ROWS = 2048


class Network(nn.Module):
    """Logits [B, K, O] of K members and O outputs, and what the task makes of them."""

    folded: FoldedNetwork | None = None
    """What answers a few rows faster, of a network that will not learn any more."""
    gathered: GatheredNetwork | None = None
    """What answers many rows faster, of such a network."""

    def __init__(self, config: NetworkConfig, shape: InputShape, task: LearningTask) -> None:
        """Keep what the network is made from."""
        super().__init__()
        self.config, self.shape, self.task = config, shape, task

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def size(self) -> dict[str, int]:
        """Say how large the network is."""
        return {"num_parameters": sum(each.numel() for each in self.parameters())}

    def description(self) -> dict[str, object]:
        """Say what the network is made from, as JSON."""
        return {
            "config": self.config.model_dump(),
            "shape": self.shape.model_dump(),
            "task": self.task.model_dump(),
        }

    def content(self) -> tuple[str, bytes]:
        """Give the weights' file: its name and bytes."""
        weights = {
            name: each.cpu().contiguous().clone() for name, each in self.state_dict().items()
        }
        return WEIGHTS, save(weights)

    def prediction(self, numbers_BF: Tensor, categories_BC: Tensor) -> Tensor:
        """Give predictions before calibration: [B], of several classes [B, C]."""
        return self.task.predict(self(numbers_BF, categories_BC))

    def predict(self, encoded: Encoded) -> NDArray[np.float64]:
        """Predict encoded rows in pieces, with dropout off and the network left as it was."""
        if self.folded is not None and len(encoded) <= self.folded.MOST:
            logits_BKO = torch.from_numpy(self.folded.logits(encoded))
            return self.task.predict(logits_BKO).numpy().astype(np.float64)
        numbers, categories = (
            torch.from_numpy(encoded.numbers),
            torch.from_numpy(encoded.categories),
        )
        was_training = self.training
        if was_training:
            self.eval()
        with torch.inference_mode():
            parts = [
                self.prediction(
                    numbers[first : first + PREDICT_ROWS].to(self.device),
                    categories[first : first + PREDICT_ROWS].to(self.device),
                )
                for first in range(0, max(len(encoded), 1), PREDICT_ROWS)
            ]
        if was_training:
            self.train()
        return torch.cat(parts).cpu().numpy().astype(np.float64)


def build_network(
    config: NetworkConfig, shape: InputShape, task: LearningTask, source_digest: str | None = None
) -> Network:
    """Make the network that the configuration names, with weights from torch's global generator.

    Raises ValueError when a user's module cannot be had or is another than `source_digest` says.
    """
    if config.module is None:
        return TabularNetwork(config, shape, task)
    return UserNetwork(config, shape, task, source_digest)


def restore_network(document: Mapping[str, Any], weights: bytes) -> Network:
    """Make the network that `description` and `content` were of, to predict with."""
    network = build_network(
        NetworkConfig.model_validate(document["config"]),
        InputShape.model_validate(document["shape"]),
        task_from(document["task"]),
        document.get("source"),
    )
    network.load_state_dict(load(weights))
    return frozen(network)


def frozen(network: Network) -> Network:
    """Give the network as one that only predicts: it must not learn any more."""
    network.eval().requires_grad_(False)
    if isinstance(network, TabularNetwork):
        network.folded = network.fold()
        if fits(network.config.hidden * network.config.num_members, network.shape):
            network.gathered = network.gather()
    return network


class UserNetwork(Network):
    """A user's own torch module, made as `Class(shape, num_outputs, **options)`.

    It takes numbers [B, F] as positions among quantile edges (-1 for a null) and codes [B, C], and
    gives logits [B, O], or [B, K, O] of K members.
    """

    def __init__(
        self,
        config: NetworkConfig,
        shape: InputShape,
        task: LearningTask,
        source_digest: str | None,
    ) -> None:
        """Import the module and make it. Raises ValueError, see load_module."""
        super().__init__(config, shape, task)
        assert config.module is not None
        loaded = load_module(config.module, source_digest)
        self.source_digest = loaded.source_digest
        self.module = loaded.make(shape, task.num_outputs, config.options)

    def description(self) -> dict[str, object]:
        """Say what the network is made from; its source by digest."""
        return {**super().description(), "source": self.source_digest}

    def forward(self, numbers_BF: Tensor, categories_BC: Tensor) -> Tensor:
        """Give logits [B, K, O]. Raises ValueError when the module gives another shape."""
        logits: Tensor = self.module(numbers_BF, categories_BC)
        if logits.dim() == 2:
            logits = logits[:, None]
        expected = (len(numbers_BF), self.task.num_outputs)
        if logits.dim() != 3 or (logits.shape[0], logits.shape[2]) != expected:
            raise ValueError(
                f"training.network.module: {self.config.module} gave {tuple(logits.shape)} for "
                f"{expected[0]} rows; give [B, {expected[1]}] or [B, members, {expected[1]}]"
            )
        return logits


class TabularNetwork(Network):
    """Logits of every member for encoded rows."""

    def __init__(
        self, config: NetworkConfig, shape: InputShape, task: LearningTask | None = None
    ) -> None:
        """Draw initial weights from torch's global generator; without a task it is binary."""
        super().__init__(config, shape, task or BinaryTask())
        source, sign, offset = _widening(shape)
        self.register_buffer("source_D", source, persistent=False)
        self.register_buffer("sign_D", sign, persistent=False)
        self.register_buffer("offset_D", offset, persistent=False)
        first = torch.tensor([0, *shape.num_categories], dtype=torch.int64).cumsum(0)
        self.register_buffer("first_code_C", first[:-1], persistent=False)
        # One table for all categories: one gather forward, one scatter backward.
        self.embedding = nn.Embedding(int(first[-1]), config.embedding)
        nn.init.normal_(self.embedding.weight, std=0.1)
        num_inputs = len(source) + config.embedding * len(shape.num_categories)
        self.first = MemberLinear(num_inputs, config.hidden, config.num_members, spread=True)
        self.rest = nn.ModuleList(
            MemberLinear(config.hidden, config.hidden, config.num_members)
            for _ in range(config.num_layers - 1)
        )
        num_outputs = self.task.num_outputs
        self.head_KHO = nn.Parameter(
            torch.randn(config.num_members, config.hidden, num_outputs) / math.sqrt(config.hidden)
        )
        self.head_bias_KO = nn.Parameter(torch.zeros(config.num_members, num_outputs))

    def widen(self, numbers_BF: Tensor) -> Tensor:
        """Widen positions to a column a bin: 1 below the value's bin, the fraction in it, 0 above.

        A null (-1) is 0 in every bin and 1 in its indicator. Done per batch, so that a year of rows
        stays 40 MB.
        """
        gathered = numbers_BF.index_select(1, self.get_buffer("source_D"))
        return torch.addcmul(
            self.get_buffer("offset_D"), gathered, self.get_buffer("sign_D")
        ).clamp_(0, 1)

    def forward(self, numbers_BF: Tensor, categories_BC: Tensor) -> Tensor:
        """Give logits [B, K, O] of K members and O outputs."""
        wide_BD = self.widen(numbers_BF)
        embedded_BE = self.embedding(categories_BC + self.get_buffer("first_code_C")).flatten(1)
        # Each activation runs on the layout in which its product was written.
        hidden_KBH = self._activate(self.first.from_shared(wide_BD, embedded_BE)).transpose(0, 1)
        for layer in self.rest:
            hidden_KBH = self._activate(layer(hidden_KBH))
        return self._head(hidden_KBH).transpose(0, 1)

    def fold(self) -> FoldedNetwork:
        """Give what answers a few rows faster; this network must not learn any more."""
        rest = cast(list[MemberLinear], list(self.rest))
        return FoldedNetwork(
            (
                self.get_buffer("source_D"),
                self.get_buffer("sign_D"),
                self.get_buffer("offset_D"),
            ),
            (self.get_buffer("first_code_C"), self.embedding.weight),
            [(layer.folded(), layer.bias_KO) for layer in (self.first, *rest)],
            (self.head_KHO, self.head_bias_KO),
        )

    def gather(self) -> GatheredNetwork:
        """Give what answers many rows faster; this network must not learn any more."""
        rest = cast(list[MemberLinear], list(self.rest))
        embeddings = torch.split(self.embedding.weight, list(self.shape.num_categories))
        layers = [(layer.folded(), layer.bias_KO) for layer in (self.first, *rest)]
        return GatheredNetwork(self.shape, embeddings, layers)

    def predict(self, encoded: Encoded) -> NDArray[np.float64]:
        """Predict encoded rows, the shortest way for their number."""
        gathered = self.gathered
        if gathered is None or len(encoded) <= FEW_ROWS or self.device.type != "cpu":
            return super().predict(encoded)
        with torch.inference_mode():
            parts = [
                self.task.predict(
                    self._head(gathered.hidden(encoded, first, first + TILE_ROWS)).transpose(0, 1)
                )
                for first in range(0, len(encoded), TILE_ROWS)
            ]
        return torch.cat(parts).numpy().astype(np.float64)

    def _head(self, hidden_KBH: Tensor) -> Tensor:
        if self.task.num_outputs == 1:
            # Faster than a product of matrices with one column, forward and backward.
            logits_KB = (hidden_KBH * self.head_KHO.transpose(1, 2)).sum(2) + self.head_bias_KO
            return logits_KB[:, :, None]
        return torch.baddbmm(self.head_bias_KO[:, None], hidden_KBH, self.head_KHO)

    def _activate(self, hidden: Tensor) -> Tensor:
        hidden = torch.relu(hidden)
        if not self.training or not self.config.dropout:
            return hidden
        return hidden * dropout_mask(hidden, self.config.dropout)


def dropout_mask(like: Tensor, share: float) -> Tensor:
    """Draw a mask of 0 and 1 / (1 - share), the share to the nearest 256th.

    Eight elements a random number, compared as floats: on one core 1.3 ms for a batch of 1,024,
    where torch's own dropout takes 11 ms, a fifth of a step.
    """
    dropped = round(share * 256)
    words = torch.empty(-(-like.numel() // 8), dtype=torch.int64, device=like.device)
    drawn = words.random_(-(2**63), None).view(torch.uint8)[: like.numel()].view(like.shape)
    return drawn.to(like.dtype).ge_(dropped).mul_(256 / (256 - dropped))


def _widening(shape: InputShape) -> tuple[Tensor, Tensor, Tensor]:
    """Describe each wide column as clamp(sign * number[source] + offset, 0, 1)."""
    columns = [
        (i, 1.0, -float(b)) for i, num_bins in enumerate(shape.num_bins) for b in range(num_bins)
    ]
    columns += [(i, -1.0, 0.0) for i, has_null in enumerate(shape.has_null) if has_null]
    source = torch.tensor([c[0] for c in columns], dtype=torch.int64)
    sign, offset = (torch.tensor([c[i] for c in columns], dtype=torch.float32) for i in (1, 2))
    return source, sign, offset

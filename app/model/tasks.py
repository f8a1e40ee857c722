"""What a model learns, task by task: its loss, and what its logits say.

Networks give logits [B, K, O] of K members and O outputs; a task turns them into predictions:
float64 [B] of a probability (binary), a value (regression) or a score (ranking), [B, C] of a
probability a class (multiclass). Knows tensors and labels; knows nothing of columns, networks or
files.
"""

from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter
from torch import Tensor
from torch.nn import functional as F

from app.contracts.rows import Contract, Frozen

Labels = NDArray[Any]
Array = NDArray[np.float64]
TINY = 1e-15


class BinaryTask(Frozen):
    """One of two outcomes: labels are 0 or 1, a prediction is the probability of 1."""

    kind: Literal["binary"] = "binary"
    num_outputs: Literal[1] = 1

    def targets(self, labels_B: Labels) -> NDArray[np.float32]:
        """Give what the loss compares logits with."""
        return labels_B.astype(np.float32)

    def loss(self, logits_BKO: Tensor, targets_B: Tensor, groups_B: Tensor | None) -> Tensor:
        """Give the mean log loss over rows and members: each member learns for itself."""
        logits_BK = logits_BKO.squeeze(2)
        return F.binary_cross_entropy_with_logits(
            logits_BK, targets_B[:, None].expand_as(logits_BK)
        )

    def predict(self, logits_BKO: Tensor) -> Tensor:
        """Give probabilities [B]: the mean over members."""
        return torch.sigmoid(logits_BKO.squeeze(2)).mean(1)

    def summary(self, predictions_B: Array) -> Array:
        """Give the one number a row whose distribution is watched: the probability."""
        return predictions_B


class MulticlassTask(Frozen):
    """One of several outcomes: labels are places among the classes, predictions [B, C]."""

    kind: Literal["multiclass"] = "multiclass"
    num_outputs: int = Field(ge=2, description="The number of classes.")

    def targets(self, labels_B: Labels) -> NDArray[np.int64]:
        """Give what the loss compares logits with."""
        return labels_B.astype(np.int64)

    def loss(self, logits_BKO: Tensor, targets_B: Tensor, groups_B: Tensor | None) -> Tensor:
        """Give the mean cross-entropy over rows and members."""
        num_members = logits_BKO.shape[1]
        return F.cross_entropy(logits_BKO.flatten(0, 1), targets_B.repeat_interleave(num_members))

    def predict(self, logits_BKO: Tensor) -> Tensor:
        """Give probabilities [B, C], each row's sum 1: the mean over members."""
        return torch.softmax(logits_BKO, 2).mean(1)

    def summary(self, predictions_BC: Array) -> Array:
        """Give the one number a row whose distribution is watched: the likeliest class's."""
        highest: Array = predictions_BC.max(1, initial=0.0)
        return highest


class RegressionTask(Frozen):
    """A number: the network learns it in standard deviations from the mean of training."""

    kind: Literal["regression"] = "regression"
    num_outputs: Literal[1] = 1
    mean: float = 0.0
    scale: float = Field(1.0, gt=0, description="Standard deviation of the labels of training.")

    def targets(self, labels_B: Labels) -> NDArray[np.float32]:
        """Give what the loss compares logits with: standardised labels."""
        return ((labels_B - self.mean) / self.scale).astype(np.float32)

    def loss(self, logits_BKO: Tensor, targets_B: Tensor, groups_B: Tensor | None) -> Tensor:
        """Give the mean squared error over rows and members, in variances of the labels."""
        logits_BK = logits_BKO.squeeze(2)
        return F.mse_loss(logits_BK, targets_B[:, None].expand_as(logits_BK))

    def predict(self, logits_BKO: Tensor) -> Tensor:
        """Give values [B] in the label's unit: the mean over members."""
        return logits_BKO.squeeze(2).mean(1).double() * self.scale + self.mean

    def summary(self, predictions_B: Array) -> Array:
        """Give the one number a row whose distribution is watched: its place about the mean.

        The normal distribution function of the standardised value: in 0..1, as a probability is.
        """
        standardised = torch.from_numpy((predictions_B - self.mean) / self.scale)
        places: Array = torch.special.ndtr(standardised).numpy()
        return places


class RankingTask(Frozen):
    """An order within a list: labels are relevances from 0 on, a higher score stands earlier.

    Source of the loss: Cao et al., Learning to rank: from pairwise approach to listwise approach
    (2007), the top-one probabilities, with relevances for the target.
    """

    kind: Literal["ranking"] = "ranking"
    num_outputs: Literal[1] = 1

    def targets(self, labels_B: Labels) -> NDArray[np.float32]:
        """Give what the loss compares logits with."""
        return labels_B.astype(np.float32)

    def loss(self, logits_BKO: Tensor, targets_B: Tensor, groups_B: Tensor | None) -> Tensor:
        """Give the mean over lists and members of the cross-entropy of top-one probabilities.

        A list without a relevant row says nothing; a batch without any list that does gives 0.
        """
        assert groups_B is not None
        logits_BK = logits_BKO.squeeze(2)
        _, list_B = torch.unique(groups_B, return_inverse=True)
        num_lists = int(list_B.max()) + 1
        spread_BK = list_B[:, None].expand_as(logits_BK)
        highest = logits_BK.new_full((num_lists, logits_BK.shape[1]), -torch.inf)
        highest = highest.scatter_reduce(0, spread_BK, logits_BK.detach(), "amax")
        shifted_BK = logits_BK - highest[list_B]
        total = torch.zeros_like(highest).index_add(0, list_B, shifted_BK.exp())
        log_share_BK = shifted_BK - total.log()[list_B]
        relevance = targets_B.new_zeros(num_lists).index_add(0, list_B, targets_B)
        weight_B = targets_B / relevance.clamp_min(TINY)[list_B]
        num_telling = (relevance > 0).sum().clamp_min(1)
        return -(weight_B[:, None] * log_share_BK).sum() / (num_telling * logits_BK.shape[1])

    def predict(self, logits_BKO: Tensor) -> Tensor:
        """Give scores [B]: the mean over members. Only their order within a list means anything."""
        return logits_BKO.squeeze(2).mean(1)

    def list_loss(self, labels_B: Labels, scores_B: Array, groups_B: NDArray[np.int64]) -> float:
        """Give the mean cross-entropy of the lists: what the loss is, of one member."""
        logits = torch.from_numpy(np.asarray(scores_B, np.float64))[:, None, None]
        targets = torch.from_numpy(labels_B.astype(np.float64))
        return float(self.loss(logits, targets, torch.from_numpy(groups_B)))

    def summary(self, scores_B: Array) -> Array:
        """Give the one number a row whose distribution is watched: the score within 0..1."""
        return 1 / (1 + np.exp(-np.clip(scores_B, -700, 700)))


LearningTask = Annotated[
    BinaryTask | MulticlassTask | RegressionTask | RankingTask, Field(discriminator="kind")
]
_ADAPTER: TypeAdapter[LearningTask] = TypeAdapter(LearningTask)


def task_from(document: object) -> LearningTask:
    """Read what model_dump wrote. Raises ValidationError."""
    return _ADAPTER.validate_python(document)


def task_of(contract: Contract, labels_B: Labels) -> LearningTask:
    """Say what is learned from these labels of training."""
    if contract.task == "multiclass":
        return MulticlassTask(num_outputs=len(contract.classes))
    if contract.task == "regression":
        return _standardised(labels_B)
    return RankingTask() if contract.task == "ranking" else BinaryTask()


def _standardised(labels_B: Labels) -> RegressionTask:
    values = np.asarray(labels_B, np.float64)
    scale = float(values.std()) if len(values) else 0.0
    return RegressionTask(mean=float(values.mean()) if len(values) else 0.0, scale=scale or 1.0)


class Top(Frozen):
    """The first k of something, best first: what an answer shows of many."""

    places: tuple[int, ...]
    """Classes of a multiclass row, rows of a list."""
    scores: tuple[float, ...]

    @classmethod
    def of(cls, scores: Array, k: int) -> Self:
        """Take the k highest; of equals the one that stands first, so that the answer is one.

        >>> Top.of(np.array([0.2, 0.5, 0.5, 0.1]), 2)
        Top(places=(1, 2), scores=(0.5, 0.5))
        """
        if k < 1:
            raise ValueError(f"top {k}: ask for at least 1")
        chosen = np.argsort(-scores, kind="stable")[:k]
        return cls(places=tuple(chosen.tolist()), scores=tuple(scores[chosen].tolist()))

"""Where a run stands between two epochs, and its files: all that is needed to go on.

Knows tensors, losses and the rule of early stopping; knows nothing of how an epoch is trained.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from pydantic import Field
from safetensors.torch import load, save
from torch import Tensor

from app.contracts.rows import Frozen
from app.sections import TrainingConfig

StageName = Literal["search", "refit"]


class Epoch(Frozen):
    """What one pass over the rows came to."""

    number: int
    num_rows: int
    train_loss: float
    stop_loss: float | None = Field(None, description="Absent in a refit: no rows are left.")
    num_workers: int = Field(1, ge=1, exclude_if=lambda number: number == 1)
    """Who shared the rows: where it may change, no two runs are equal to the bit."""


@dataclass(frozen=True)
class FitState:
    """A run between two epochs: all that is needed to go on.

    A run first searches for the number of epochs; a refit then starts anew, on the stop rows too.
    """

    epochs: tuple[Epoch, ...] = ()
    best_epoch: int = 0
    best_loss: float = math.inf
    """The lowest loss on the stop rows so far."""
    refit_epochs: tuple[Epoch, ...] = ()
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    average: Mapping[str, Tensor] = field(default_factory=dict)
    """Of the weights over the last steps."""
    best: Mapping[str, Tensor] = field(default_factory=dict)
    """The average at the best epoch of the search; it has not seen the stop rows."""
    moments: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def final(self) -> Mapping[str, Tensor]:
        """What the run is for: the average at the end of the refit, or the best of the search."""
        return self.average if self.refit_epochs else self.best

    @property
    def stage(self) -> StageName:
        """What the last epoch belongs to."""
        return "refit" if self.refit_epochs else "search"

    @property
    def latest(self) -> Epoch:
        """The last epoch that was run."""
        return (*self.epochs, *self.refit_epochs)[-1]

    def is_searched(self, config: TrainingConfig) -> bool:
        """Tell whether early stopping or the number of epochs ends the search here."""
        num_epochs = len(self.epochs)
        return num_epochs >= config.epochs or num_epochs - self.best_epoch >= config.patience

    def is_finished(self, config: TrainingConfig) -> bool:
        """Tell whether nothing is left to train."""
        refitted = not config.refit or len(self.refit_epochs) >= self.best_epoch
        return self.is_searched(config) and refitted

    def is_best(self, stop_loss: float, config: TrainingConfig) -> bool:
        """Tell whether an epoch with this stop loss is to be kept rather than those before.

        The stop rows are a few days, and differences within the tolerance are their noise: the
        latest epoch as good as the best one is kept, since the average gains from more steps. For
        the same reason the first `min_epochs` are not compared at all.
        """
        if len(self.epochs) <= config.min_epochs:
            return True
        return stop_loss <= min(stop_loss, self.best_loss) * (1 + config.stop_tolerance)

    def judged(self, epoch: Epoch, config: TrainingConfig) -> Self:
        """Take in an epoch of the search; its average is kept as the best one, if it is.

        The epoch's stop loss is a number.
        """
        assert epoch.stop_loss is not None
        state = replace(self, epochs=(*self.epochs, epoch))
        if not state.is_best(epoch.stop_loss, config):
            return state
        is_early = epoch.number <= config.min_epochs
        lowest = epoch.stop_loss if is_early else min(epoch.stop_loss, state.best_loss)
        return replace(state, best=state.average, best_loss=lowest, best_epoch=epoch.number)

    def to_files(self, fingerprint: str) -> dict[str, bytes]:
        """Write as files; the fingerprint names the data and settings of the run."""
        tensors = {
            f"{part}/{name}": tensor.cpu().contiguous().clone()
            for part, named in (
                ("weights", self.weights),
                ("average", self.average),
                ("best", self.best),
                ("moments", self.moments),
            )
            for name, tensor in named.items()
        }
        document = {
            "fingerprint": fingerprint,
            "epochs": [epoch.model_dump() for epoch in self.epochs],
            "refit_epochs": [epoch.model_dump() for epoch in self.refit_epochs],
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
        }
        return {
            "state.json": json.dumps(document, indent=1).encode(),
            "tensors.safetensors": save(tensors),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], fingerprint: str) -> Self:
        """Read what to_files wrote. Raises ValueError when it belongs to other data or settings."""
        document = json.loads(files["state.json"])
        if document["fingerprint"] != fingerprint:
            raise ValueError(
                "this run's name was used with other data or settings "
                f"({document['fingerprint']}, now {fingerprint}); give the run another name"
            )
        parts: dict[str, dict[str, Tensor]] = {
            part: {} for part in ("weights", "average", "best", "moments")
        }
        for key, tensor in load(files["tensors.safetensors"]).items():
            part, _, name = key.partition("/")
            parts[part][name] = tensor
        epochs, refit_epochs = (
            tuple(Epoch.model_validate(epoch) for epoch in document[name])
            for name in ("epochs", "refit_epochs")
        )
        return cls(
            epochs=epochs,
            best_epoch=document["best_epoch"],
            best_loss=document["best_loss"],
            refit_epochs=refit_epochs,
            weights=parts["weights"],
            average=parts["average"],
            best=parts["best"],
            moments=parts["moments"],
        )

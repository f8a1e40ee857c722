"""The network and one training run.

Knows names, bounds and units; knows nothing of files, or of the parts that read them.
"""

from typing import Literal

from pydantic import Field, JsonValue

from app.contracts.rows import Frozen
from app.sections.data import SplitConfig


class NetworkConfig(Frozen):
    """Shape of the tabular network, or a module of your own in its place."""

    hidden: int = Field(256, ge=8)
    num_layers: int = Field(2, ge=1, le=8)
    num_members: int = Field(
        1, ge=1, le=64, description="Members of the weight-sharing ensemble; 1 is a plain MLP."
    )
    embedding: int = Field(8, ge=1, le=256)
    dropout: float = Field(0.3, ge=0, lt=1)
    module: str | None = Field(
        None,
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        exclude_if=lambda module: module is None,
        description="package.module:Class of a torch module, made as "
        "Class(shape, num_outputs, **options); the sizes above are then not used.",
    )
    options: dict[str, JsonValue] = Field(
        {}, exclude_if=lambda options: not options, description="What the module is made with."
    )


class TrainingConfig(Frozen):
    """One training run."""

    seed: int = 7
    network: NetworkConfig = NetworkConfig()
    split: SplitConfig = SplitConfig()
    epochs: int = Field(8, ge=1)
    min_epochs: int = Field(
        1, ge=1, description="Early stopping compares epochs from this one on; a few days mislead."
    )
    patience: int = Field(2, ge=1, description="Epochs without a better stop loss before stopping.")
    stop_tolerance: float = Field(
        0.003, ge=0, description="Stop losses within this share of the best are equally good."
    )
    refit: bool = Field(
        True,
        description="Train again on the stop rows too, for as many epochs as were found best.",
    )
    batch_rows: int = Field(1024, ge=16)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="Cosine: the rate falls to 0 over all epochs, early stopping or not."
    )
    weight_decay: float = Field(1e-2, ge=0)
    averaging: float = Field(
        0.995,
        ge=0,
        lt=1,
        description="Decay a step of the weights' average; 0 keeps the last step.",
    )
    calibration: Literal["platt", "temperature", "isotonic", "none", "auto"] = Field(
        "platt",
        exclude_if=lambda kind: kind == "platt",
        description="How predictions are corrected on the stop rows. Several classes take a "
        "temperature and numbers a line, or none; a ranking has nothing to correct.",
    )
    num_workers: int = Field(1, ge=1)
    cpus_per_worker: float = Field(1.0, gt=0)
    threads_per_worker: int = Field(
        2, ge=1, description="Torch threads of a worker; 2 is one laptop."
    )
    use_gpu: bool = False
    max_failures: int = Field(
        2,
        ge=0,
        exclude_if=lambda number: number == 2,
        description="How often workers that fail are started again, after the last whole epoch; "
        "machines that are taken away do not count.",
    )
    window_days: int | None = Field(
        None, ge=7, description="Length of the window; absent: everything."
    )
    experiment: str = "mainspring"

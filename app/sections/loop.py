"""When evidence becomes action: diagnosis, governor, gate, watch.

Knows names, bounds and units; knows nothing of files, or of the parts that read them.
"""

from pydantic import Field

from app.contracts.rows import Frozen


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

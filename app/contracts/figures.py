"""How well predictions matched outcomes: figures with intervals, by task.

Knows names and bounds; knows nothing of how a figure is computed. Shares are in 0..1.
"""

from pydantic import Field

from app.contracts.rows import Frozen, Task


class Metric(Frozen):
    """A figure with its interval and the number of rows behind it."""

    value: float
    low: float
    high: float


class Evaluation(Frozen):
    """How well probabilities matched outcomes on one set of rows."""

    num_rows: int = Field(ge=0)
    positive_share: float
    mean_probability: float
    roc_auc: Metric
    pr_auc: Metric
    brier: Metric
    log_loss: float
    calibration_error: float = Field(description="Expected calibration error, 10 equal-mass bins.")

    @property
    def figures(self) -> dict[str, float]:
        """The figures by name."""
        return {
            "roc_auc": self.roc_auc.value,
            "pr_auc": self.pr_auc.value,
            "brier": self.brier.value,
            "log_loss": self.log_loss,
            "calibration_error": self.calibration_error,
        }

    @property
    def headline(self) -> str:
        """The figure that people ask for first."""
        return f"ROC-AUC {self.roc_auc.value:.3f} [{self.roc_auc.low:.3f}, {self.roc_auc.high:.3f}]"


class TaskEvaluation(Frozen):
    """How well predictions of another task than binary matched outcomes on one set of rows."""

    task: Task
    num_rows: int = Field(ge=0)
    metrics: dict[str, Metric] = Field(min_length=1, description="The first one leads.")

    @property
    def figures(self) -> dict[str, float]:
        """The figures by name."""
        return {name: metric.value for name, metric in self.metrics.items()}

    @property
    def headline(self) -> str:
        """The figure that people ask for first."""
        name, first = next(iter(self.metrics.items()))
        return f"{name} {first.value:.4g} [{first.low:.4g}, {first.high:.4g}]"

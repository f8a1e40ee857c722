"""The record of how well one trained version did, in depth: what a model card is drawn from.

Wider than `Evaluation`, which the ledger keeps and monitoring compares with; this one is a file
beside the run. It holds names of columns and values of public ones, and no row.
"""

from typing import Literal

from pydantic import AwareDatetime, Field

from app.contracts.records import Metric
from app.contracts.rows import Frozen, Task

OperatingRule = Literal["threshold", "flagged_share", "costs", "default"]


class OperatingPoint(Frozen):
    """What comes of flagging every row from one probability on."""

    rule: OperatingRule = Field(description="What chose the threshold.")
    threshold: float
    true_positive: int = Field(ge=0)
    false_positive: int = Field(ge=0)
    false_negative: int = Field(ge=0)
    true_negative: int = Field(ge=0)
    flagged_share: Metric
    precision: Metric | None = Field(description="Absent where no row is flagged.")
    recall: Metric


class CostReport(Frozen):
    """Business cost a row, by who decides what is flagged."""

    unit: str = ""
    operating: Metric = Field(description="At the operating point.")
    nobody: Metric
    everybody: Metric
    best: Metric = Field(description="At the threshold that was cheapest on these very rows.")
    best_threshold: float = Field(description="Above 1: the cheapest is to flag nobody.")
    break_even: float = Field(description="The cheapest threshold of well calibrated ones.")
    saved: Metric = Field(description="Operating point against the cheaper of nobody, everybody.")


class Condition(Frozen):
    """One column's part in a slice."""

    column: str
    says: str = Field(description="For people, such as '>= 12' or '= EWR'.")


class SliceReport(Frozen):
    """How the model did on the rows that meet every condition."""

    conditions: tuple[Condition, ...]
    num_rows: int = Field(ge=0)
    row_share: float
    loss: Metric = Field(description="Mean loss a row.")
    excess: Metric = Field(description="Mean loss, less that of other rows of its days.")
    outcome: float = Field(description="Mean of the outcomes.")
    predicted: float | None = Field(description="Mean of the predictions, where that says anything")
    gap: Metric | None = Field(None, description="Outcome less prediction, on average.")
    roc_auc: Metric | None = Field(None, description="Binary, with both outcomes.")
    found_by: Literal["declared", "loss", "too_low", "too_high"] = "declared"
    q_value: float | None = Field(None, description="False discovery share at which it is found.")

    @property
    def name(self) -> str:
        """Give the conditions on one line."""
        return " and ".join(f"{part.column} {part.says}" for part in self.conditions)


class SliceSearch(Frozen):
    """What the search for bad slices looked at, and what it found."""

    num_columns: int
    num_withheld: int = Field(description="Feature columns whose values are not public.")
    num_tested: int = Field(description="Slices with enough rows, one column or two.")
    num_significant: int
    found: tuple[SliceReport, ...] = Field(description="The worst, without near repeats.")


class Bin(Frozen):
    """Rows of like probability, and how often it happened to them."""

    num_rows: int
    predicted: float
    observed: Metric


class Curves(Frozen):
    """Curves of a binary model, each reduced to at most a few hundred points."""

    roc: tuple[tuple[float, float], ...] = Field(description="False and true positive rates.")
    pr: tuple[tuple[float, float], ...] = Field(description="Recall and precision.")
    reliability: tuple[Bin, ...]
    scores: tuple[int, ...] = Field(description="Rows in equal stretches of probability, 0 to 1.")


class Importance(Frozen):
    """How much the loss rises when one column is shuffled."""

    column: str
    rise: Metric


class EvaluationReport(Frozen):
    """How a version did on its stop rows."""

    task: Task
    run: str
    start: AwareDatetime = Field(description="First prediction time of the rows.")
    end: AwareDatetime = Field(description="Last prediction time of the rows.")
    num_rows: int
    confidence: float
    num_bootstraps: int
    figures: dict[str, Metric]
    loss: str = Field(description="The loss of slices and importance, a row.")
    outcome: float | None = Field(description="Mean of the outcomes.")
    operating: OperatingPoint | None = None
    costs: CostReport | None = None
    curves: Curves | None = None
    declared: tuple[SliceReport, ...] = ()
    search: SliceSearch | None = None
    importance: tuple[Importance, ...] = ()
    importance_rows: int = 0

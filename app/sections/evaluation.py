"""How a trained model is measured for people, and what its card states.

Knows names, bounds and units; knows nothing of files, or of the parts that read them. Nothing here
decides what a model is made of, so that changing it never makes another model.
"""

from typing import Self

from pydantic import Field, model_validator

from app.contracts.rows import Frozen


class CostsConfig(Frozen):
    """What one row costs the business, by what was said of it and what it turned out to be.

    A gain is a negative cost.
    """

    false_positive: float = Field(description="Flagged, and did not happen.")
    false_negative: float = Field(description="Not flagged, and happened.")
    true_positive: float = 0.0
    true_negative: float = 0.0
    unit: str = Field("", description="Such as EUR or minutes.")

    @model_validator(mode="after")
    def _a_flag_can_be_right(self) -> Self:
        if self.false_positive <= self.true_negative or self.false_negative <= self.true_positive:
            raise ValueError(
                "evaluation.costs: being wrong must cost more than being right, got "
                f"false_positive {self.false_positive:g} beside true_negative "
                f"{self.true_negative:g} and false_negative {self.false_negative:g} beside "
                f"true_positive {self.true_positive:g}; write gains as negative costs"
            )
        return self

    @property
    def break_even(self) -> float:
        """The probability from which flagging a row costs less than leaving it (Elkan, 2001).

        >>> CostsConfig(false_positive=1, false_negative=4).break_even
        0.2
        """
        wrongly, missed = (
            self.false_positive - self.true_negative,
            self.false_negative - self.true_positive,
        )
        return wrongly / (wrongly + missed)


class EvaluationConfig(Frozen):
    """The report on a trained version: operating point, costs, intervals, slices, importance."""

    threshold: float | None = Field(
        None, ge=0, le=1, description="Flag rows from this probability on."
    )
    flagged_share: float | None = Field(
        None, gt=0, lt=1, description="Or: flag this share of the rows, the likeliest first."
    )
    costs: CostsConfig | None = None
    num_bootstraps: int = Field(200, ge=20, le=10_000)
    confidence: float = Field(0.9, gt=0.5, lt=1)
    max_slices: int = Field(8, ge=0, le=100, description="Discovered slices that are shown.")
    min_slice_rows: int = Field(200, ge=30, description="Fewer rows are no slice.")
    false_discovery_share: float = Field(
        0.05, gt=0, lt=1, description="Among discovered slices, expected at most."
    )
    importance_rows: int = Field(4000, ge=100, description="Rows that columns are shuffled over.")
    importance_repeats: int = Field(3, ge=2, le=50, description="Shuffles of each column.")

    @property
    def declared_threshold(self) -> float | None:
        """From which probability on rows are flagged; None: a share of them is, whatever it takes.

        Without a word on it this is half, as `model.operating` has it.
        """
        if self.threshold is not None or self.flagged_share is not None:
            return self.threshold
        return 0.5 if self.costs is None else self.costs.break_even

    @model_validator(mode="after")
    def _one_operating_point(self) -> Self:
        if self.threshold is not None and self.flagged_share is not None:
            raise ValueError(
                f"evaluation: threshold {self.threshold:g} and flagged_share "
                f"{self.flagged_share:g} are two operating points; give one of them"
            )
        return self


class CardConfig(Frozen):
    """What only people know of a model. Left out, the card says that it is not stated."""

    purpose: str = Field("", description="What it is for, in a sentence or two.")
    users: tuple[str, ...] = Field((), description="Who acts on it, and how.")
    out_of_scope: tuple[str, ...] = Field((), description="What it must not be used for.")
    limits: tuple[str, ...] = Field((), description="Where it is known to be weak.")
    contact: str = Field("", description="Whom to ask.")

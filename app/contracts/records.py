"""The frozen facts that stages exchange.

Every record is JSON on disk and in the ledger; none holds an array, a handle or a path that a
client chose. Times are timezone-aware UTC. Shares are in 0..1.
"""

from datetime import datetime
from typing import Literal

from pydantic import (
    AwareDatetime,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from app.contracts.figures import Evaluation as Evaluation
from app.contracts.figures import Metric as Metric
from app.contracts.figures import TaskEvaluation as TaskEvaluation
from app.contracts.maturity import Maturity
from app.contracts.rows import Frozen
from app.contracts.shares import ONLY_CHAMPION, Shares

Cause = Literal[
    "healthy",
    "too_few_labels",
    "broken_data",
    "unseen_categories",
    "serving_skew",
    "covariate_shift",
    "prior_shift",
    "concept_drift",
]
ActionKind = Literal[
    "observe",
    "alert",
    "retrain",
    "recalibrate",
    "gate",
    "promote",
    "refuse",
    "watch",
    "keep",
    "rollback",
    # By a person, not by the loop: who answers beside the champion.
    "arrange",
]
Phase = Literal["observe", "gate", "promote", "watch"]
LabelState = Literal["pending", "known", "void"]


class DatasetVersion(Frozen):
    """Pin the rows that something was computed from."""

    start: AwareDatetime = Field(description="First prediction time, inclusive.")
    end: AwareDatetime = Field(description="Last prediction time, exclusive.")
    known_at: AwareDatetime = Field(description="Labels as known at this time.")
    received_by: AwareDatetime | None = Field(
        None, description="Only labels that had arrived by then; absent: all of labels_version."
    )
    events_version: int = Field(ge=0, description="Delta version of the events table.")
    labels_version: int = Field(ge=-1, description="Delta version of the labels table, -1 if none.")
    digest: str = Field(description="Sum of keyed row hashes, hexadecimal; free of row order.")
    num_rows: int = Field(ge=0)
    num_known: int = Field(ge=0)
    num_void: int = Field(ge=0)

    @property
    def content(self) -> dict[str, object]:
        """What it holds, and not where the tables keep it: equal rows have equal content.

        Delta versions count commits, which depend on when rows were shipped. A cut that was not
        asked for is left out, so that models made before there was one keep their digests.
        """
        hidden = {"events_version", "labels_version"}
        if self.received_by is None:
            hidden.add("received_by")
        return self.model_dump(mode="json", exclude=hidden)


class HeldOutShare(Frozen):
    """Rows kept for the gate where days mean nothing: a share of the keys, chosen by a hash."""

    by: Literal["id", "entity"]
    seed: int
    share: float = Field(gt=0, lt=1)


class ModelVersion(Frozen):
    """One immutable model: what it is and what it was made from."""

    digest: str = Field(description="Digest of the artifact folder's manifest.")
    model: str
    run: str = Field(description="The step key, which is also the run's name.")
    kind: Literal["trained", "recalibrated"]
    parent: str | None = None
    created_at: AwareDatetime
    dataset: DatasetVersion
    trained_until: AwareDatetime = Field(
        description="No row at or after this prediction time shaped the model."
    )
    held_out_days: tuple[str, ...] = Field(
        description="UTC dates of prediction time that shaped nothing: kept for the gate."
    )
    held_out_share: HeldOutShare | None = Field(
        None, description="In place of days: the share of keys whose rows shaped nothing."
    )
    config_digest: str
    code_version: str
    circumstances: str | None = Field(
        None, description="Digest of what it was made under; the run's folder holds it whole."
    )
    seed: int
    evaluation: Evaluation | TaskEvaluation = Field(
        description="On the rows of early stopping: an optimistic figure."
    )

    @property
    def binary_evaluation(self) -> Evaluation:
        """The evaluation of a binary model. Raises ValueError for another task."""
        if isinstance(self.evaluation, Evaluation):
            return self.evaluation
        raise ValueError(
            f"version {self.digest[:12]} is of task {self.evaluation.task}, not binary"
        )


class TrainingResult(Frozen):
    """What a training run hands over."""

    version: ModelVersion
    seconds: float
    num_epochs: int
    rows_per_second: float


class Roles(Frozen):
    """The numbered row that says which versions play which part."""

    model: str
    generation: int = Field(ge=0)
    champion: str | None = None
    previous: str | None = Field(None, description="Kept resident: the way back.")
    challenger: str | None = None
    shadow: str | None = Field(None, description="Scores what others have answered; never answers.")
    decision: str | None = Field(None, description="The decision that made this generation.")
    shares: Shares = Field(
        ONLY_CHAMPION, description="What the challenger answers: nothing unless it is given."
    )

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out what nobody asked for: older records and newer ones read the same."""
        written: dict[str, object] = write(self)
        if self.shares == ONLY_CHAMPION:
            written.pop("shares", None)
        if self.shadow is None:
            written.pop("shadow", None)
        return written


class ColumnDrift(Frozen):
    """How far one column of live rows moved from the training reference."""

    column: str
    psi: float = Field(ge=0, description="Population stability index over the reference's bins.")
    null_share: float
    reference_null_share: float
    unseen_share: float = Field(description="Share of values outside the vocabulary.")


class Evidence(Frozen):
    """What monitoring knows about one version over one window: numbers, never a verdict."""

    model: str
    version: str
    start: AwareDatetime
    end: AwareDatetime
    known_at: AwareDatetime
    num_predictions: int = Field(ge=0)
    num_known: int = Field(ge=0)
    num_void: int = Field(ge=0)
    coverage: float = Field(description="Share of predictions whose outcome is known or void.")
    maturity: Maturity | None = Field(None, description="How old predictions had to be to count.")
    performance: Evaluation | None = Field(None, description="Absent until enough labels matured.")
    reference: Evaluation = Field(
        description="The version's own figures when it was gated or trained."
    )
    columns: tuple[ColumnDrift, ...] = ()
    prediction_psi: float = 0.0
    mean_probability: float = 0.0
    num_new_labels: int = Field(
        0, ge=0, description="Known labels since the version's training ended."
    )
    num_quarantined: int = Field(0, ge=0)
    skewed_share: float = Field(
        0.0,
        description="Share of logged predictions that the version's own bundle does not reproduce.",
    )


class Diagnosis(Frozen):
    """The named cause of what the evidence shows."""

    cause: Cause
    reasons: tuple[str, ...]
    columns: tuple[str, ...] = ()


class GateReport(Frozen):
    """The paired comparison of a candidate with the champion."""

    passed: bool
    reasons: tuple[str, ...]
    num_rows: int
    num_days: int
    champion: Evaluation | None = None
    candidate: Evaluation
    auc_gain: Metric | None = Field(None, description="Candidate minus champion, paired by day.")
    ranking_gain: Metric | None = Field(
        None, description="The same, over pairs of rows of one day: much less noise."
    )
    brier_gain: Metric | None = Field(
        None, description="Champion minus candidate: above 0 is better."
    )
    slices: dict[str, Metric] = Field(default_factory=dict)


class WatchReport(Frozen):
    """The paired comparison of a promoted champion with the one before, on live outcomes."""

    verdict: Literal["wait", "keep", "harm"]
    reasons: tuple[str, ...]
    num_rows: int = Field(ge=0)
    num_days: int = Field(ge=0)
    auc_gain: Metric | None = Field(None, description="Champion minus previous, paired by day.")
    brier_gain: Metric | None = Field(
        None, description="Previous minus champion: above 0 is better."
    )


class Action(Frozen):
    """What the loop does next, and why."""

    kind: ActionKind
    reasons: tuple[str, ...]
    cause: Cause | None = None
    candidate: str | None = None


class Decision(Frozen):
    """One act of the loop, recorded before it happens and completed after."""

    key: str = Field(description="Names the step, its Ray job and its training run.")
    model: str
    at: AwareDatetime
    action: Action
    epoch: int = Field(ge=0)
    outcome: dict[str, object] | None = Field(None, description="Absent while under way.")


class LoopState(Frozen):
    """Where the loop of one model stands. Changed only with the outcome of a decision."""

    model: str
    phase: Phase = "observe"
    since: datetime | None = None
    sequence: int = Field(0, ge=0, description="Number of decisions so far; names the next step.")
    candidate: str | None = None
    gate: GateReport | None = None
    num_retrainings: int = Field(0, ge=0)
    last_training_at: AwareDatetime | None = None
    promoted_at: AwareDatetime | None = None
    reference: Evaluation | None = Field(None, description="The champion's figures at its gate.")
    attempts: tuple[AwareDatetime, ...] = Field(
        (), description="Trainings that count against the budget, failed ones too."
    )
    last_recalibration_at: AwareDatetime | None = None
    alerts: dict[Cause, AwareDatetime] = Field(
        default_factory=dict,
        description="End of the evidence that each cause was last alerted for.",
    )
    watched_at: AwareDatetime | None = Field(None, description="The last look of the watch.")
    watch: WatchReport | None = Field(None, description="What the last look of the watch said.")
    carried_labels: int = Field(
        0, ge=0, description="New labels known before the champion's last recalibration."
    )
